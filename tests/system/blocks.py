"""A program with many blocks, to see how many of them the translation cache holds."""

# 2000 functions of a few instructions, many of which end where an instruction of four bytes could begin.
BLOCKS = '\n'.join(
    [
        '#include <stdio.h>',
        '#include <sys/wait.h>',
        '#include <unistd.h>',
        *(f'__attribute__((noipa)) int f{i}(int a) {{ return a + {i}; }}' for i in range(2000)),
        'int main(void)',
        '{',
        '    int sum = 0;',
        *(f'    sum += f{i}(sum & 7);' for i in range(2000)),
        '    if (fork() == 0)',
        '        _exit(0);',
        '    wait(NULL);',
        r'    printf("%d\n", sum > 0);',
        '    fflush(stdout);',
        '    getchar();',
        '    return 0;',
        '}',
    ]
)
