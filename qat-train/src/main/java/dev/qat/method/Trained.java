package dev.qat.method;

import dev.qat.model.Model;
import dev.qat.tensor.Param;
import java.util.List;

/** Which parameters of the model train beside what a quantizer brings: all of them, or the linears' weights alone. */
public enum Trained {
    ALL, LINEARS;

    /** In the order of the forward pass, and so of memory. */
    List<Param> of(Model m) {
        return this == ALL ? m.params() : m.linears().stream().map(l -> l.weight).toList();
    }
}
