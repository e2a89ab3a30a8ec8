package dev.qat.watch;

import java.util.Map;

/** Who is shown every step and every judgement of a run, beside metrics.jsonl. */
interface Onlooker extends AutoCloseable {
    /** The numbers everybody has, in the words people look for; beside them a stage may write more. */
    java.util.Set<String> USUAL = java.util.Set.of("train/loss", "train/grad_norm", "train/lr");

    void step(String stage, int block, long step, double loss, double norm, double rate, Map<String, Double> more);

    void judged(Row row);

    @Override
    void close();
}
