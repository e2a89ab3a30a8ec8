package dev.qat.model;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.qat.ops.RowGrid;
import dev.qat.tensor.Fail;
import java.util.List;
import java.util.Optional;

/**
 * Which values of a token a model rounds, each token on a scale of its own: the inputs of its linears, and its keys and values before
 * rope (LLM-QAT, arXiv 2305.17888 §2.2). A written model says so in config.json, under {@code token_quantization}, and whoever loads
 * it computes and decodes the same:
 *
 * <pre>{"scheme": "min-max per token", "activation_bits": 8, "kv_cache_bits": 4, "kv_cache_scales": "token", "symmetric": false}</pre>
 *
 * @param inputs bits of the linears' inputs, {@link #OFF} for none  @param cache bits of keys and values
 * @param heads whether a token's keys, and its values, have a scale for every head ({@code "head"}) instead of one for all of them ({@code "token"})
 * @param symmetric whether a token has a scale alone, not an offset as well  @param window for gradients, see {@link RowGrid}
 */
public record TokenRounding(int inputs, int cache, boolean heads, boolean symmetric, boolean window) {
    public static final int OFF = 32;
    public static final String KEY = "token_quantization";
    private static final String SCHEME = "min-max per token", TOKEN = "token", HEAD = "head";

    /** What a config.json says; empty where it says nothing. */
    static Optional<TokenRounding> of(JsonNode config, String origin) {
        JsonNode j = config.path(KEY);
        if (j.isMissingNode() || j.isNull()) return Optional.empty();
        int inputs = j.path("activation_bits").asInt(0), cache = j.path("kv_cache_bits").asInt(0);
        String scales = j.path("kv_cache_scales").asText(TOKEN);
        if (!j.path("scheme").asText().equals(SCHEME) || !known(inputs) || !known(cache) || !scales.equals(TOKEN) && !scales.equals(HEAD)) {
            throw Fail.data("%s: %s is %s, expected scheme \"%s\" with activation_bits and kv_cache_bits of 2 to 16, or 32 for none, and kv_cache_scales \"%s\" or \"%s\". "
                    + "Without the key, tokens are not rounded.", origin, KEY, j, SCHEME, TOKEN, HEAD);
        }
        return Optional.of(new TokenRounding(inputs, cache, scales.equals(HEAD), j.path("symmetric").asBoolean(true), false));
    }

    private static boolean known(int bits) {
        return 2 <= bits && bits <= 16 || bits == OFF;
    }

    /** What a model's sites do; empty where they round nothing by the token, or not everywhere alike. */
    static Optional<TokenRounding> of(Model m) {
        Block first = m.blocks().getFirst();
        Site.Rows inputs = first.q.inputSite.rows(), cache = first.storedKeySite().rows();
        if (inputs == null && cache == null) return Optional.empty();
        for (Block b : m.blocks()) {
            for (Linear l : b.linears()) if (!Site.Rows.alike(l.inputSite.rows(), inputs)) return Optional.empty();
            for (Site s : List.of(b.storedKeySite(), b.valueSite)) if (!Site.Rows.alike(s.rows(), cache)) return Optional.empty();
        }
        RowGrid one = (inputs != null ? inputs : cache).grid();
        return Optional.of(new TokenRounding(inputs == null ? OFF : inputs.grid().bits(), cache == null ? OFF : cache.grid().bits(), cache != null && cache.parts() > 1, one.symmetric(), one.window()));
    }

    /** Has the model do in its sites what config.json says, if anything. */
    public static void install(Model m, JsonNode config, String origin) {
        of(config, origin).ifPresent(t -> t.install(m));
    }

    /** Says in config.json what the model's sites do. */
    public static void describe(Model m, ObjectNode config) {
        config.remove(KEY);
        of(m).ifPresent(t -> config.putObject(KEY).put("scheme", SCHEME).put("activation_bits", t.inputs).put("kv_cache_bits", t.cache).put("kv_cache_scales", t.heads ? HEAD : TOKEN).put("symmetric", t.symmetric));
    }

    /** Puts the functions into a model's sites, the last there. */
    public void install(Model m) {
        for (Block b : m.blocks()) {
            if (inputs != OFF) {
                for (List<Linear> readers : b.readers()) {
                    Site.Rows once = new Site.Rows(new RowGrid(inputs, symmetric, window), 1);
                    for (Linear l : readers) l.inputSite.add(once);
                }
            }
            int parts = heads ? m.config.K() : 1;
            if (cache != OFF) for (Site s : List.of(b.storedKeySite(), b.valueSite)) s.add(new Site.Rows(new RowGrid(cache, symmetric, window), parts));
        }
    }
}
