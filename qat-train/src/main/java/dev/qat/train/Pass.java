package dev.qat.train;

import dev.qat.data.Safetensors;
import dev.qat.train.Checkpoints.Piece;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import java.util.stream.IntStream;

/**
 * A pass of hidden states through a block, as the journal sees it: a loop whose steps are batches, without an optimizer. It stands on
 * the states, of which some may be carried already, and on what those who look on have summed up.
 *
 * @param name   no other pass between the same two units of a run has it  @param states as they lie on the host when asked for, by name
 */
record Pass(Trainer.Name name, int batches, Supplier<Map<String, MemorySegment>> states, List<? extends Tally> tallies) {
    /** The sums, for a file. */
    List<Piece> sums() {
        return IntStream.range(0, tallies.size()).mapToObj(i -> Ledger.whole("" + i, tallies.get(i).sums())).toList();
    }

    void restoreSums(Safetensors file) {
        for (int i = 0; i < tallies.size(); i++) tallies.get(i).restore(file.bytes("" + i));
    }
}
