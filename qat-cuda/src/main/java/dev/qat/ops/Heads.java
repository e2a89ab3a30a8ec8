package dev.qat.ops;

import dev.qat.tensor.Fail;

/** The shape of an attention: B sequences of T tokens, H query heads over K key/value heads of D elements. */
public record Heads(int B, int T, int H, int K, int D) {
    public Heads {
        Fail.unless(B > 0 && T > 0 && H > 0 && K > 0 && D > 0 && H % K == 0 && D % 2 == 0,
                "attention of B=%d T=%d H=%d K=%d D=%d: H must be a multiple of K, D even", B, T, H, K, D);
    }
}
