package dev.qat.tensor;

/** How an element is stored. Arithmetic is always fp32 or wider; BF16 is the operand format of tensor-core products. */
public enum DType {
    F32(4), BF16(2), I32(4), U8(1);

    public final int bytes;

    DType(int bytes) {
        this.bytes = bytes;
    }
}
