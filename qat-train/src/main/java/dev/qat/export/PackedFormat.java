package dev.qat.export;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.data.SafetensorsWriter.Slot;
import dev.qat.ops.Snap.Half;
import java.lang.foreign.MemorySegment;
import java.util.List;

/** How a format keeps a quantized linear in the safetensors of a Hugging Face directory. */
interface PackedFormat {
    /** A tensor of the format and its bytes. */
    record Part(Slot slot, MemorySegment bytes) {}

    /** What is common to all linears of a model; {@code group} is −1 for whole rows. */
    record Grid(int bits, int group, boolean symmetric) {}

    /** The precision of steps, and of every tensor that is not quantized. */
    default Half half() {
        return Half.FP16;
    }

    /** The bits this format writes codes of so many bits with; refused where there are none. */
    int bits(Lattice l);

    /** Refuses a linear (O, I) whose codes of so many bits this format cannot pack. */
    default void shape(String linear, int bits, long rows, long cols) {}

    /** Refuses a lattice of a shape that fits, for its numbers. */
    default void check(Lattice l) {}

    /** The tensors to come, in order. */
    List<Slot> slots(Lattice l);

    /** The same with their bytes. */
    List<Part> parts(Lattice l, HalfSteps steps);

    /** The config's quantization_config. */
    void config(ObjectNode quantization, Grid grid);

    /** Further files beside the config that readers of this format look for, as name and text; none for most. */
    default List<String> copies() {
        return List.of();
    }
}
