package dev.qat.tensor;

/**
 * What a few numbers of a device were at moments of its work, in order: a note is made when all that was issued before it is
 * done, and reading it waits for nothing that was issued behind.
 */
public interface Notes extends AutoCloseable {
    /** Makes a note when all that is issued so far is done. */
    void make();

    /** Whether the oldest note that was not read is made; false where there is none. */
    boolean ready();

    /** The oldest note that was not read, waited for: one number for each tensor. */
    float[] read();

    /** Notes that were not read never will be. */
    void forget();

    @Override
    void close();
}
