package dev.qat.watch;

import java.util.Map;

/** One line of the closing table: how what stands after a stage was judged.  @param notes what the stage noted, such as the share of dead weights */
public record Row(String name, double perplexity, double kl, double top1, double bitsPerWeight, double seconds, Map<String, Double> notes) {}
