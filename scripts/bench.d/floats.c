/* Bodies that pull at each other: arithmetic on doubles, with square roots. */
#include <math.h>
#include <stdio.h>

#define BODIES 6

int main(void)
{
    double at[BODIES][3], speed[BODIES][3] = { 0 };

    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++) at[i][k] = (i * 7 + k * 3) % 11 - 5.0 + i / 8.0;
    for (int step = 0; step < 4000; step++) {
        for (int i = 0; i < BODIES; i++) {
            for (int j = 0; j < BODIES; j++) {
                double d[3], square = 0.01;
                for (int k = 0; k < 3; k++) square += (d[k] = at[j][k] - at[i][k]) * d[k];
                double pull = 0.001 / (square * sqrt(square));
                for (int k = 0; k < 3; k++) speed[i][k] += d[k] * pull;
            }
        }
        for (int i = 0; i < BODIES; i++)
            for (int k = 0; k < 3; k++) at[i][k] += speed[i][k] * 0.001;
    }
    printf("%.6f\n", at[0][0] + at[1][1] + at[2][2]);
    return 0;
}
