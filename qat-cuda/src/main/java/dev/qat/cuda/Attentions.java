package dev.qat.cuda;

import static dev.qat.cuda.Launcher.fp32;
import static dev.qat.cuda.Launcher.half;

import dev.qat.ops.Grad;
import dev.qat.ops.Heads;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Tensor;

/**
 * Attention: on tensor cores where products are BF16 and the heads fit the tiles (D ≤ 128, a multiple of 4, aligned), in fp32
 * otherwise. One launch forward, two backward.
 */
final class Attentions {
    private static final int[] WIDTHS = {32, 64, 96, 128};
    private static final int THREADS = 128, TILE = 64, PLAIN_TILE = 8, CACHE_THREADS = 256, MOST = 256;

    private final Launcher on;
    private final Precision precision;

    Attentions(Launcher on, Precision precision) {
        this.on = on;
        this.precision = precision;
    }

    void attention(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads h) {
        fp32(lse, q, k, v);
        run("attention", "", h.H(), h, tiles(h, q, k, v), o, half(o), lse, q, k, v, h.T(), h.H(), h.K(), h.D(), scale(h));
    }

    void attentionBack(Grad dq, Grad dk, Grad dv, Tensor delta, Tensor dy, Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads h) {
        fp32(dq, dk, dv, delta, dy, lse, q, k, v);
        if (!dq.wanted() && !dk.wanted() && !dv.wanted()) return;
        boolean tiles = tiles(h, dy, q, k, v);
        run("attention", "BackQ", h.H(), h, tiles, dq, delta, dy, o, half(o), lse, q, k, v, h.T(), h.H(), h.K(), h.D(), scale(h));
        if (!dk.wanted() && !dv.wanted()) return;
        run("attention", "BackKV", h.K(), h, tiles, dk, dv, delta, dy, lse, q, k, v, h.T(), h.H(), h.K(), h.D(), scale(h));
    }

    /** A block per tile of a head's rows. */
    private void run(String op, String part, int heads, Heads h, boolean tiles, Object... args) {
        Blocks blocks = Blocks.of(Math.ceilDiv(h.T(), tiles ? TILE : PLAIN_TILE), heads, h.B(), THREADS);
        if (tiles) on.run("D=" + width(h), op, op + part, blocks, args);
        else on.run(op + "Plain", op + "Plain" + part, blocks, args);
    }

    void attentionCache(Tensor o, Tensor q, Tensor k, Tensor v, Tensor lengths, Heads h) {
        fp32(o, q, k, v);
        fits(h);
        on.run("attentionCache", "attentionCache", Blocks.of(h.H(), h.B(), CACHE_THREADS), o, q, k, v, lengths, h.T(), h.H(), h.K(), h.D(), scale(h));
    }

    private boolean tiles(Heads h, Tensor... read) {
        boolean yes = precision == Precision.BF16 && h.D() <= WIDTHS[WIDTHS.length - 1] && Launcher.wide(h.D(), (Object[]) read);
        if (!yes) fits(h);
        return yes;
    }

    private static void fits(Heads h) {
        if (h.D() > MOST) throw Fail.usage("attention heads of %d elements: the CUDA backend takes at most %d. Use backend: cpu for this "
                + "model.", h.D(), MOST);
    }

    private static int width(Heads h) {
        for (int w : WIDTHS) if (h.D() <= w) return w;
        throw Fail.internal("no tile for heads of %d", h.D());
    }

    private static float scale(Heads h) {
        return (float) (1 / Math.sqrt(h.D()));
    }
}
