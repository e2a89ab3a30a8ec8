package dev.qat.tensor;

/**
 * Where the tensors of a step wait on the host until they are wanted again, the last first: one travels there while the
 * next but one is made, and comes back while the one behind it is used.
 */
public interface Stowage extends AutoCloseable {
    /** A place on the device for ops to write a tensor; the one before it stays where it is, older ones must have been sent. */
    Tensor put(String name, DType type, long... dims);

    /** Sends a tensor to the host: it will be {@link #fetch}ed. */
    void send(Tensor x);

    /** Has a tensor on the device again for ops issued from here on, and starts the one that was put before it on its way. */
    void fetch(Tensor x);

    /** Nothing will read a tensor again. */
    void drop(Tensor x);

    boolean holds(Tensor x);

    /** Forgets everything; ops issued from here on find nothing on its way. */
    void clear();

    @Override
    void close();
}
