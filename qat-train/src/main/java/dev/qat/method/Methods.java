package dev.qat.method;

import dev.qat.train.Stage;
import java.util.LinkedHashMap;
import java.util.Map;

/** The registry: what a recipe may name as the method of a stage. To add one: a record that is a {@link Stage}, and its line here. */
public final class Methods {
    private static final Map<String, Class<? extends Record>> ALL = new LinkedHashMap<>();

    static {
        entry("full-precision", FullPrecision.class);
        entry("rtn", Rtn.class);
        entry("teq", Teq.class);
        entry("awq", Awq.class);
        entry("smoothquant", SmoothQuant.class);
        entry("rotate", Rotate.class);
        entry("spinquant", SpinQuant.class);
        entry("fpt-local", FptLocal.class);
        entry("fptquant", FptQuant.class);
        entry("kv-balance", KvBalance.class);
        entry("static", StaticRounding.class);
        entry("gptq", Gptq.class);
        entry("min-max", MinMaxRounding.class);
        entry("block-ap", BlockAp.class);
        entry("flexround", FlexRound.class);
        entry("lwc", Lwc.class);
        entry("e2e-qp", E2eQp.class);
        entry("e2e-qat", E2eQat.class);
        entry("llm-qat", LlmQat.class);
        entry("absmean", AbsMean.class);
        entry("twn", Twn.class);
        entry("lsq-ternary", LsqTernary.class);
        entry("seq", Seq.class);
        entry("dlt", Dlt.class);
        entry("sherry", Sherry.class);
        entry("tequila", Tequila.class);
        entry("original", Original.class);
    }

    private Methods() {}

    private static <R extends Record & Stage> void entry(String name, Class<R> method) {
        ALL.put(name, method);
    }

    public static Map<String, Class<? extends Record>> all() {
        return Map.copyOf(ALL);
    }

    /** The name a stage has in recipes and results. */
    public static String nameOf(Stage stage) {
        return ALL.entrySet().stream().filter(e -> e.getValue() == stage.getClass()).map(Map.Entry::getKey).findFirst().orElseThrow();
    }
}
