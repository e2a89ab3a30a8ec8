package dev.qat.tensor;

import java.lang.foreign.MemorySegment;

/**
 * Carries tensors of one shape between the host and the device beside the computation: what is sent ahead travels while the
 * step before it computes, what a step gave travels while the next one does. Nothing here holds the host but {@link #land}.
 *
 * <p>The host's memory must come from {@link Memory#allocateOnHost}. In the host's own memory nothing travels: what is taken and
 * given are windows on it.
 */
public interface Shuttle extends AutoCloseable {
    /** Starts on its way what {@code from} holds; it must stay as it is until it is {@link #taken}. */
    void send(MemorySegment from);

    /** What {@code from} holds, as ops issued from here on find it; sent now, if it was not sent before. */
    Tensor take(MemorySegment from);

    /** All that reads what was taken has been issued. */
    void taken();

    /** A place for ops to write what will be carried to {@code to}. */
    Tensor give(MemorySegment to);

    /** All that writes what is given has been issued: from here on it travels. */
    void given();

    /** Holds the caller until everything given lies on the host. */
    void land();

    @Override
    void close();
}
