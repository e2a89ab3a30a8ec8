package dev.qat.ops;

import dev.qat.tensor.Fail;

/**
 * How the next token is drawn: temperature 0 takes the largest logit; else the {@code topK} largest (0: all) are kept, then
 * the smallest set of them whose probability reaches {@code topP} (1: all), and one is drawn.
 */
public record Sampling(float temperature, int topK, float topP, long seed) {
    public static final Sampling GREEDY = new Sampling(0, 0, 1, 0);

    public Sampling {
        Fail.unless(temperature >= 0 && topK >= 0 && topP > 0 && topP <= 1,
                "sampling with temperature=%s top-k=%d top-p=%s", temperature, topK, topP);
    }
}
