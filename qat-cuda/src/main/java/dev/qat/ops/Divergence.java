package dev.qat.ops;

import dev.qat.tensor.Fail;

/**
 * What a student's next-token distribution S is measured by against its teacher's T.
 *
 * <pre>
 * F = KL(T‖S)   R = KL(S‖T)   JS = ½ KL(T‖M) + ½ KL(S‖M), M = ½ (S + T)      at temperature τ, times τ²
 * loss = (jensenShannon ? JS : reverse · R + (1 − reverse) · F) + hard · CE(target, S at temperature 1)
 * </pre>
 * reverse = 0 is plain distillation, 0 < reverse < 1 is BitDistiller's CAKLD with β = reverse.
 */
public record Divergence(boolean jensenShannon, float reverse, float hard, float temperature) {
    /** KL(T‖S), the loss of LLM-QAT. */
    public static final Divergence KL = new Divergence(false, 0, 0, 1);

    public Divergence {
        Fail.unless(reverse >= 0 && reverse <= 1 && hard >= 0 && temperature > 0,
                "divergence with reverse=%s hard=%s temperature=%s", reverse, hard, temperature);
    }
}
