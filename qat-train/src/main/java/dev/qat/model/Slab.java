package dev.qat.model;

import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Param.Kind;
import dev.qat.tensor.Tensor;
import java.util.function.Function;

/**
 * Parameters that lie side by side in one allocation, so that an optimizer takes them in one pass: asked for twice, first to
 * find the size, then to hand out the places.
 */
public final class Slab {
    private static final long ALIGN = 64;

    private final long base;
    private long top;

    private Slab(long base) {
        this.base = base;
    }

    /** Where the slab begins: what is freed to free it. */
    public long address() {
        return base;
    }

    /** Runs {@code parts} once to count its bytes and once more on memory of that size. */
    public static <T> T of(Memory memory, String owner, Function<Slab, T> parts) {
        Slab count = new Slab(ALIGN);
        parts.apply(count);
        return parts.apply(new Slab(memory.allocate(owner, Math.max(count.top, ALIGN))));
    }

    public Param param(String name, Kind kind, long... dims) {
        return new Param(name, kind, tensor(name, DType.F32, dims));
    }

    /** A tensor of this slab. */
    public Tensor tensor(String name, DType type, long... dims) {
        Tensor t = new Tensor(name, type, base + top, dims);
        top += (t.bytes() + ALIGN - 1) / ALIGN * ALIGN;
        return t;
    }

    /** The place of a parameter that is already known. */
    Tensor place(Param p, DType type) {
        return tensor(p.name(), type, p.value().dims());
    }

}
