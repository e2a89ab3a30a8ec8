package dev.qat.ops;

import dev.qat.tensor.Fail;

/**
 * Which scale a channel takes, and to which power: channel j of a row takes m = (j / (run · repeat)) · run + j mod run. With
 * run = D and repeat = H/K the values' scale of each key/value head serves its group of query heads; with repeat = 1, m = j.
 *
 * @param power 1 or −1
 */
public record Channels(int run, int repeat, int power) {
    public Channels {
        Fail.unless(run > 0 && repeat > 0 && (power == 1 || power == -1), "channels of run=%d repeat=%d power=%d", run, repeat, power);
    }

    /** One scale per channel of a row of {@code channels}. */
    public static Channels each(long channels, int power) {
        return new Channels(Math.toIntExact(channels), 1, power);
    }

    public int of(int j) {
        return j / (run * repeat) * run + j % run;
    }
}
