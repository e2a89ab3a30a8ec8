package dev.qat.method;

import dev.qat.tensor.Param;
import java.util.List;

/** What a method puts last on a linear's weight site: it trains with its own parameters. */
public interface Quantizer {
    /** The parameters it brings, which may train. */
    List<Param> params();
}
