package dev.qat.cuda;

import dev.qat.tensor.DType;

/** What the products read: BF16 or TF32 on tensor cores, or plain fp32. Sums are fp32 in all three. */
public enum Precision {
    BF16(DType.BF16, Device.Kind.BF16),
    TF32(DType.F32, Device.Kind.TF32),
    FP32(DType.F32, Device.Kind.F32);

    final DType operand;
    final Device.Kind kind;

    Precision(DType operand, Device.Kind kind) {
        this.operand = operand;
        this.kind = kind;
    }
}
