package dev.qat.export;

/** One format's way from tensors to a {@link Lattice}. */
interface PackedReader {
    /** Fails with a sentence unless the tensors of a linear (O, I) are there as the config promises. */
    void check(String linear, long rows, long cols);

    /** Its codes in the order they are stored, steps and zero points by their group. */
    Lattice read(String linear, int rows, int cols);

    /** The group of each input, where neighbours do not share one (desc_act, actorder); null where input i is in group i / G. */
    default int[] order(String linear, long cols) {
        return null;
    }
}
