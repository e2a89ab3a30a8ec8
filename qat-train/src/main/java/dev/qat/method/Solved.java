package dev.qat.method;

/**
 * A weight that was quantized on the host.
 *
 * @param values (O, I), each (code − zero) · step  @param step (O, I/G)  @param zero (O, I/G), whole numbers in [0, Q]
 */
record Solved(float[] values, float[] step, float[] zero) {
    static Solved empty(int rows, int cols, int group) {
        int groups = rows * (cols / group);
        return new Solved(new float[rows * cols], new float[groups], new float[groups]);
    }
}
