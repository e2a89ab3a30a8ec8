package dev.qat.train;

import dev.qat.tensor.Memory;
import dev.qat.tensor.Tensor;
import java.lang.foreign.MemorySegment;

/** What an onlooker sums up while a {@link Chain} passes a block; kept with the pass, so that a run that dies in it goes on at a batch. */
public interface Tally {
    /** What the sums take, for plans. */
    long bytes();

    /** The sums so far. */
    MemorySegment sums();

    /** Goes on from the sums of an earlier process. */
    void restore(MemorySegment sums);

    /** A batch has passed. */
    default void take() {}

    /** Sums that lie in a tensor of the device. */
    static Tally in(Memory memory, Tensor sums) {
        return new Tally() {
            @Override
            public long bytes() {
                return sums.bytes();
            }

            @Override
            public MemorySegment sums() {
                return MemorySegment.ofArray(memory.floats(sums));
            }

            @Override
            public void restore(MemorySegment was) {
                memory.write(sums, was);
            }
        };
    }
}
