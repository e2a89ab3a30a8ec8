package dev.qat.export;

/** Matrices turned over: out (cols, rows) = in (rows, cols). */
final class Transposed {
    private Transposed() {}

    static int[] ints(int[] in, int rows, int cols) {
        int[] out = new int[in.length];
        for (int r = 0; r < rows; r++) for (int c = 0; c < cols; c++) out[c * rows + r] = in[r * cols + c];
        return out;
    }

    static short[] shorts(short[] in, int rows, int cols) {
        short[] out = new short[in.length];
        for (int r = 0; r < rows; r++) for (int c = 0; c < cols; c++) out[c * rows + r] = in[r * cols + c];
        return out;
    }

    static float[] floats(float[] in, int rows, int cols) {
        float[] out = new float[in.length];
        for (int r = 0; r < rows; r++) for (int c = 0; c < cols; c++) out[c * rows + r] = in[r * cols + c];
        return out;
    }
}
