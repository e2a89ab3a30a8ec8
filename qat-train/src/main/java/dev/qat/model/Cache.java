package dev.qat.model;

import dev.qat.ops.RowGrid;
import dev.qat.tensor.Tensor;
import java.util.List;

/** Keys and values of B sequences while they are decoded, a store per layer; positions and lengths I32 (B), places I32 (B·capacity): 0, 1, 2.. of every sequence. */
public record Cache(Tensor table, Tensor positions, Tensor lengths, Tensor places, List<Store> keys, List<Store> values) {
    /** What is kept of one layer's keys, or values. */
    public sealed interface Store {
        /** As attention reads them, keys after rope.   rows (B, capacity, K·D) */
        record Plain(Tensor rows) implements Store {
            @Override
            public List<Tensor> tensors() {
                return List.of(rows);
            }
        }

        /** The whole numbers that the site's last function rounds them to, with scales, keys before rope.   codes I32 (B, capacity, words)  scales (B, capacity, 1 or 2 for each scale of a token) */
        record Integers(Tensor codes, Tensor scales, RowGrid grid) implements Store {
            @Override
            public List<Tensor> tensors() {
                return List.of(codes, scales);
            }
        }

        List<Tensor> tensors();

        default long capacity() {
            return tensors().getFirst().dim(1);
        }
    }
}
