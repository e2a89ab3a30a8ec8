package dev.qat.export;

/** One format's way from tensors to a {@link Lattice}. */
interface PackedReader {
    /** Fails with a sentence unless the tensors of a linear (O, I) are there as the config promises. */
    void check(String linear, long rows, long cols);

    Lattice read(String linear, int rows, int cols);
}
