/* Starts a program with not even a name: argc is 0, which Linux makes 1, with an empty name, since 5.18. */
#include <unistd.h>

int main(int argc, char **argv)
{
    char *none[] = {NULL}, *environment[] = {NULL};
    if (argc == 2)
        execve(argv[1], none, environment);
    return 127;
}
