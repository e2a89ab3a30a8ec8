package dev.qat.method;

import dev.qat.ops.Backend;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Param;
import java.util.List;

/** What a method puts last on a linear's weight site: it trains with its own parameters and freezes to codes. */
public interface Quantizer {
    /** The parameters it brings, which may train. */
    List<Param> params();

    /** The codes of the weight as it is now, such that dequantizing them gives what the site gave. */
    PackedWeight freeze(Backend backend);
}
