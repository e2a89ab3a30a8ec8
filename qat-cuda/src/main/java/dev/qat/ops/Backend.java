package dev.qat.ops;

import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;

/**
 * What a device must compute: the coarse ops of a decoder and of its quantizers, forward and backward side by side.
 *
 * <p>Outputs come first, then inputs. Letters: B batch, T tokens, N = B·T rows, C channels, I and O a product's inputs and
 * outputs, H query heads, K key/value heads, D head size, F hidden size of the MLP, V vocabulary, G group. Every sum is
 * taken in a fixed order, so the same inputs give the same bits. A {@link Grad} is written or added to as it says, and a
 * NONE is skipped. Weights and the inputs of products may be in {@link #operand()} type; everything else is fp32.
 */
public interface Backend extends AutoCloseable {
    String name();

    Memory memory();

    /** The type in which products read their operands: F32 on the CPU, BF16 on tensor cores. */
    DType operand();

    /** Waits until all that was asked for is done. */
    void sync();

    /**
     * A step that will be run many times at the same addresses. A device may record what it did once and play it back, so
     * whatever changes from step to step must be read from memory that is written before {@link Repeated#run}.
     */
    default Repeated repeated(Runnable step) {
        return step::run;
    }

    /** A step ready to be repeated; closing it forgets what was recorded. */
    @FunctionalInterface
    interface Repeated extends AutoCloseable {
        void run();

        @Override
        default void close() {}
    }

    @Override
    void close();

    // ---- moving and adding -------------------------------------------------------------------------------------------

    /** y = x, rounded to y's type. */
    void copy(Tensor y, Tensor x);

    /** y = v */
    void fill(Tensor y, float v);

    /** y = a + b */
    void add(Tensor y, Tensor a, Tensor b);

    /** y = s · x */
    void scale(Tensor y, Tensor x, float s);

    /** dx (+)= s · dy; the backward of add and scale. */
    void accumulate(Grad dx, Tensor dy, float s);

    /** y = s · Σ x.   y (1) */
    void sum(Tensor y, Tensor x, float s);

    // ---- the decoder -------------------------------------------------------------------------------------------------

    /** y_n = table[ids_n].   y (N, C)  ids I32 (N)  table (V, C) */
    void embed(Tensor y, Tensor ids, Tensor table);

    /** dtable[v] (+)= Σ_{n: ids_n = v} dy_n, in order of n. */
    void embedBack(Grad dtable, Tensor dy, Tensor ids);

    /** y = x · wᵀ + bias + plus.   y (N, O)  x (N, I)  w (O, I)  bias (O) or null  plus (N, O) or null */
    void linear(Tensor y, Tensor x, Tensor w, Tensor bias, Tensor plus);

    /** dx (+)= dy · w;  dw (+)= dyᵀ · x;  dbias (+)= Σ_n dy_n */
    void linearBack(Grad dx, Grad dw, Grad dbias, Tensor dy, Tensor x, Tensor w);

    /** y = x · gain · rstd, rstd = 1 / √(mean x² + eps).   x (M, C) for gain (C), M = x.size / C  rstd (M) */
    void rmsnorm(Tensor y, Tensor rstd, Tensor x, Tensor gain, float eps);

    /** dx (+)= rstd · (gain·dy − x · rstd² · mean(gain·dy·x));  dgain (+)= Σ_m dy · x · rstd */
    void rmsnormBack(Grad dx, Grad dgain, Tensor dy, Tensor x, Tensor gain, Tensor rstd);

    /** y_n = plus_n + u_n · rms_n^power, rms_n = √(mean x_n² + eps): a row by the size of another.   u, plus, y (N, U)  plus null for none  x (N, C)  power 1 or −1 */
    void rmsScale(Tensor y, Tensor u, Tensor x, Tensor plus, float eps, int power);

    /** du_n (+)= dy_n · rms_n^power;  dx_n (+)= x_n · power · rms_n^(power − 2) / C · Σ dy_n · u_n */
    void rmsScaleBack(Grad du, Grad dx, Tensor dy, Tensor u, Tensor x, float eps, int power);

    /**
     * Rotates pairs (i, i + D/2) of every head by the angle of the row's position (half-split order, as Hugging Face).
     * y_i = x_i cos − x_{i+D/2} sin;  y_{i+D/2} = x_{i+D/2} cos + x_i sin.
     * x (N, heads·D)  table (2, Tmax, D/2): cosines, then sines  positions I32 (N)
     */
    void rope(Tensor y, Tensor x, Tensor table, Tensor positions);

    /** dx (+)= dy rotated back. */
    void ropeBack(Grad dx, Tensor dy, Tensor table, Tensor positions);

    /** Causal grouped-query attention, o = softmax(q kᵀ / √D) v.   q, o (N, H·D)  k, v (N, K·D)  lse (B, H, T): log Σ exp */
    void attention(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads heads);

    /** The gradients of attention, probabilities recomputed from lse.   delta (B, H, T): scratch for Σ_d dy·o */
    void attentionBack(Grad dq, Grad dk, Grad dv, Tensor delta, Tensor dy, Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, Heads heads);

    /** Attention of one new token per sequence over its cache.   q, o (B, H·D)  k, v (B, Tmax, K·D)  lengths I32 (B): keys to read; heads.T = Tmax */
    void attentionCache(Tensor o, Tensor q, Tensor k, Tensor v, Tensor lengths, Heads heads);

    /** cache[b, positions_b] = x_b.   cache (B, Tmax, C)  x (B, C)  positions I32 (B) */
    void cacheWrite(Tensor cache, Tensor x, Tensor positions);

    /**
     * The same with rows kept as rowQuant's integers: at (b, positions_b) the codes and the scales of x_b, one for each of its M parts (heads, or the whole row).
     * symmetric: code = rint(x·s) + 2^(b−1), scales (s);  else code = rint((x − min)/r · (2^b − 1)), scales (r, min), r = max − min + 1e-8.
     * codes I32 (B, Tmax, M·ceil(C/M·bits/32)), a dense bit stream per part as in PackedWeight  scales (B, Tmax, M·(1 or 2))  x (B, C)  positions I32 (B)
     */
    void cachePack(Tensor codes, Tensor scales, Tensor x, Tensor positions, RowGrid grid);

    /** y[b, t] = what rowQuant makes of the parts packed there (its −0 becomes 0), for t < lengths_b; the rest of y stays.   y (B, Tmax, C)  lengths I32 (B) */
    void cacheUnpack(Tensor y, Tensor codes, Tensor scales, Tensor lengths, RowGrid grid);

    /** y = silu(gate) · up, silu(g) = g / (1 + e^−g) */
    void swiglu(Tensor y, Tensor gate, Tensor up);

    void swigluBack(Grad dgate, Grad dup, Tensor dy, Tensor gate, Tensor up);

    // ---- losses ------------------------------------------------------------------------------------------------------

    /**
     * Head and next-token cross-entropy in chunks of rows, so that full logits never exist; loss and gradients in one pass.
     * loss_n = −log softmax(x_n · wᵀ)[targets_n], 0 where targets_n < 0;  gradients are those of weight · Σ loss.
     * loss (N)  x (N, C)  w (V, C)  targets I32 (N)  logits (chunk, V): scratch
     */
    void crossEntropy(Tensor loss, Grad dx, Grad dw, Tensor logits, Tensor x, Tensor w, Tensor targets, float weight);

    /**
     * The same for a divergence from a teacher with its own last hidden state and head; rows with targets_n < 0 count 0.
     * tx (N, Ct)  tw (V, Ct)  logits, tlogits (chunk, V): scratch
     */
    void distill(Tensor loss, Grad dx, Grad dw, Tensor logits, Tensor tlogits, Tensor x, Tensor w, Tensor tx, Tensor tw,
                 Tensor targets, Divergence divergence, float weight);

    /** Judges a student against its teacher: stats_n = (−log S[target] or 0 where targets_n < 0, KL(T‖S), 1 if both prefer the same token).   stats (N, 3) */
    void compare(Tensor stats, Tensor logits, Tensor tlogits, Tensor x, Tensor w, Tensor tx, Tensor tw, Tensor targets);

    /** loss = mean (x − target)²;  dx (+)= 2 (x − target) / size.   loss (1) */
    void mse(Tensor loss, Grad dx, Tensor x, Tensor target);

    // ---- quantizers --------------------------------------------------------------------------------------------------

    /**
     * The range of each group.   w (O, I)  step, zero (O, I/G)
     * POINT: step = clamp((max − min)/Q, 1e-4, 1e4), zero = rint(−clamp(min/step, ±1e4));  given z: step = clamp(max(max/(Q − z), −min/z), 1e-4, 1e4);
     * MINIMUM: zero = min(min, 0), step = clamp((max − zero)/Q, 1e-4, 1e4)
     */
    void groupRange(Tensor step, Tensor zero, Tensor w, Grid grid);

    /**
     * EfficientQAT's group-affine fake quantization (arXiv 2407.11062 eq. 1-2; trap: z′ is rounded, then clamped).
     * s′ = clamp(step, 1e-4, 1e4);  z′ = clamp(rint(zero), 0, Q);  y = (clamp(rint(w/s′) + z′, 0, Q) − z′) · s′
     * MINIMUM, zero being m: y = clamp(rint((w − m)/s′), 0, Q) · s′ + m
     */
    void fakeQuant(Tensor y, Tensor w, Tensor step, Tensor zero, Grid grid);

    /**
     * With u = rint(w/s′) + z′, q = clamp(u, 0, Q), M = 1[0 ≤ u ≤ Q]:
     * dw (+)= dy·M;  dstep (+)= Σ_group dy·(q − z′ − M·w/s′);  dzero (+)= Σ_group dy·s′·(M − 1).  dw may be dy itself.
     * MINIMUM, with u = rint((w − m)/s′): dstep (+)= Σ_group dy·(q − M·(w − m)/s′);  dzero (+)= Σ_group dy·(1 − M)
     */
    void fakeQuantBack(Grad dw, Grad dstep, Grad dzero, Tensor dy, Tensor w, Tensor step, Tensor zero, Grid grid);

    /** Fills codes, step and zero of {@code packed} with exactly what fakeQuant computes: dequantize(packed) == fakeQuant(w). */
    void pack(PackedWeight packed, Tensor w, Tensor step, Tensor zero);

    /** y = (code − zero) · step, or code · step + zero with a minimum; {@code step} in place of the packed one, which is how E2E-QP trains it. */
    void dequantize(Tensor y, PackedWeight packed, Tensor step);

    /** dstep (+)= Σ_group dy · (code − zero), or dy · code with a minimum */
    void dequantizeBack(Grad dstep, Tensor dy, PackedWeight packed);

    /** y = x as a container stores it, see {@link Snap}; y may be x. */
    void snap(Tensor y, Tensor x, Snap how);

    /** LSQ (arXiv 1902.08153): v = w/s;  y = s · rint(clamp(v, −2^(b−1), 2^(b−1)−1)).   step (size/G) */
    void lsq(Tensor y, Tensor w, Tensor step, Grid grid);

    /** dw (+)= dy·1[qn ≤ v ≤ qp];  dstep (+)= Σ_group dy · (rint(v) − v inside; qn below; qp above) / √(G·qp).  dw may be dy itself. */
    void lsqBack(Grad dw, Grad dstep, Tensor dy, Tensor w, Tensor step, Grid grid);

    /** Min-max fake quantization per row; constants as in the official code: s = (2^(b−1)−1)/(max|x| + 1e-6), y = rint(x·s)/(s + 1e-6). */
    void rowQuant(Tensor y, Tensor x, RowGrid grid);

    /** dx (+)= dy, where |x| < 2 if the grid has a window.  dx may be dy itself. */
    void rowQuantBack(Grad dx, Tensor dy, Tensor x, RowGrid grid);

    /** The group's own min-max grid, 0 always on it:  lo = min(0, min w), hi = max(0, max w), s = max(hi − lo, 1e-12) / Q, z = rint(−lo/s), y = (clamp(rint(w/s) + z, 0, Q) − z) · s. */
    void minMaxQuant(Tensor y, Tensor w, Grid grid);

    /**
     * Roundings alone pass straight through, as in OmniQuant (arXiv 2308.13137); the range follows the weights that span it.
     * With u = rint(w/s) + z, q = clamp(u, 0, Q), M = 1[0 ≤ u ≤ Q], D = Σ_group dy·(1 − M), ds = Σ_group dy·(q − z − M·w/s) − D·lo/s, 0 where hi − lo ≤ 1e-12:
     * dw (+)= dy·M, and ds/Q more for the first greatest w if it is above 0, D − ds/Q more for the first least if it is below.  dw may be dy itself.
     */
    void minMaxQuantBack(Grad dw, Tensor dy, Tensor w, Grid grid);

    // ---- transforms --------------------------------------------------------------------------------------------------

    /** y_nj = x_nj · e^(power · tau_m), m the scale of channel j ({@link Channels}).   x (N, C)  tau (C / repeat) */
    void channelScale(Tensor y, Tensor x, Tensor tau, Channels how);

    /** dx (+)= dy · e^(power · tau_m);  dtau_m (+)= power · Σ_n Σ_{j of m} dy_nj · x_nj · e^(power · tau_m) */
    void channelScaleBack(Grad dx, Grad dtau, Tensor dy, Tensor x, Tensor tau, Channels how);

    /**
     * y = x · (H ⊗ I) per {@code size · apart} neighbouring channels, H the Sylvester-Hadamard matrix over √size: symmetric, its own inverse. So channels
     * that lie {@code apart} from one another are turned together; 1 for neighbours. size a power of two.
     */
    void hadamard(Tensor y, Tensor x, int size, int apart);

    /** dx (+)= dy · (H ⊗ I) */
    void hadamardBack(Grad dx, Tensor dy, int size, int apart);

    /** y_phjq = Σ_i M_k[j, i] · x_phiq with k = h / repeat: the D values of every head times the matrix of its group ({@link Mix}).   x (P, H, D, inner)  m (K·D, D) */
    void mixHeads(Tensor y, Tensor x, Tensor m, Mix how);

    /** dx_phiq (+)= Σ_j M_k[j, i] · dy_phjq;  dm_k[j, i] (+)= Σ_p Σ_{h of k} Σ_q dy_phjq · x_phiq */
    void mixHeadsBack(Grad dx, Grad dm, Tensor dy, Tensor x, Tensor m, Mix how);

    // ---- ternary -----------------------------------------------------------------------------------------------------

    /** The scale of every group and the edge of its dead zone, by a rule.   w (size), scale, edge (size/G) */
    void ternaryRange(Tensor scale, Tensor edge, Tensor w, Threshold rule, int group);

    /**
     * y = level · s · t + shift + residual · w;  t = 1 where w ≥ e, else −1 where w ≤ −e, else 0 (quads: see {@link Trits}).
     * s = scale, e = edge; where edge is null the scale is learned: s = max(scale, 1e-5), e = trits.edge · s.
     * scale, edge, shift (size/G), the last two or null  residual (1) or null
     */
    void ternary(Tensor y, Tensor w, Tensor scale, Tensor edge, Tensor shift, Tensor residual, Trits trits);

    /**
     * With v = w/s and M = 1[|w| ≤ clip · s]:  dw (+)= dy · (M + residual);  dshift (+)= Σ_group dy;
     * dscale (+)= slope · Σ_group dy · (level · t − v where M, else beyond · sign(v)).  dw may be dy itself.
     */
    void ternaryBack(Grad dw, Grad dscale, Grad dshift, Tensor dy, Tensor w, Tensor scale, Tensor edge, Tensor residual, Trits trits);

    /**
     * Tequila's reactivation (arXiv 2509.23809): weights in the dead zone D (t = 0) become a bias of their row.
     * bias_o = plus_o + Σ_{i in D} epsilon · v_oi;  dead_o = |D|;  v = w or, with sign, 1 where w ≥ 0 and −1 where w < 0.
     * bias, dead (O)  plus (O) or null  w (O, I)  scale, edge as above  epsilon (O), or (O, I): one for each weight
     */
    void reactivate(Tensor bias, Tensor dead, Tensor plus, Tensor w, Tensor scale, Tensor edge, Tensor epsilon, Trits trits, boolean sign);

    /**
     * dw (+)= epsilon · dy_o in D, else 0, with sign straight-through: dy_o in D, else 0;  depsilon (+)= dy_o · Σ_{i in D} v_oi, or of each weight
     * dy_o · v_oi in D.   dy (O)
     */
    void reactivateBack(Grad dw, Grad depsilon, Tensor dy, Tensor w, Tensor scale, Tensor edge, Tensor epsilon, Trits trits, boolean sign);

    // ---- optimizer ---------------------------------------------------------------------------------------------------

    /** y = 0·y + Σ x²: once no finite number it is NaN for good, so that after a broken step {@link #adamw} takes no other.   y (1) */
    void sumSquares(Tensor y, Tensor x);

    /**
     * AdamW over a whole slab, fused with clipping by the global norm √squares (null: none).
     * g′ = g · min(1, maxNorm/(√squares + 1e-6));  m = β₁m + (1−β₁)g′;  v = β₂v + (1−β₂)g′²;
     * p −= lr · (m·c₁ / (√(v·c₂) + eps) + decay·p).
     * hyper (8): lr, β₁, β₂, eps, decay, c₁ = 1/(1−β₁ᵗ), c₂ = 1/(1−β₂ᵗ), maxNorm (0: none)
     * Where squares is given and no finite number nothing changes: such gradients are worth nothing, and what stood before
     * them shows where they broke.
     */
    void adamw(Tensor p, Tensor g, Tensor m, Tensor v, Tensor hyper, Tensor squares);

    // ---- random numbers ----------------------------------------------------------------------------------------------

    /** y_i uniform in [0, 1) from Philox4x32-10 at counter (i/4, key₂, key₃) with key (key₀, key₁).   key I32 (4) */
    void uniform(Tensor y, Tensor key);

    /** ids_b drawn from softmax(logits_b), −1 if a logit is NaN.   ids I32 (B)  logits (B, V)  keys I32 (B, 2): sequence, position — the random counter */
    void sample(Tensor ids, Tensor logits, Tensor keys, Sampling sampling);
}
