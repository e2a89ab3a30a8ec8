package dev.qat.cli;

import dev.qat.method.Methods;
import dev.qat.tensor.Fail;
import dev.qat.train.Fit;
import dev.qat.train.Recipe;
import dev.qat.train.Stage;
import java.lang.reflect.RecordComponent;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Function;

/** Looks for the keys of a recipe that make it fit, by planning it again with others: what is found was tried. */
final class Savings {
    /** @param keys overrides that were found, in the words of the command line  @param fit what is needed with them */
    record Found(List<String> keys, Fit fit) {}

    private static final int SHORTEST = 256;
    private static final Set<String> THRIFT = Set.of("recompute", "offload", "stow");

    private Savings() {}

    /** The fewest of the known ways that fit, cheap ones first; without one that fits, those that come nearest. Empty where nothing helps. */
    static Optional<Found> look(Recipe recipe, Fit now, Function<List<String>, Fit> plan) {
        Map<String, String> chosen = new LinkedHashMap<>();
        Fit best = now;
        for (String[] way : ways(recipe)) {
            if (best.fits()) break;
            Map<String, String> with = new LinkedHashMap<>(chosen);
            with.put(way[0], way[1]);
            Optional<Fit> fit = attempt(plan, with);
            if (fit.isEmpty() || fit.get().over() >= best.over()) continue;
            chosen = with;
            best = fit.get();
        }
        for (String key : List.copyOf(chosen.keySet())) {
            if (!best.fits()) break;
            Map<String, String> without = new LinkedHashMap<>(chosen);
            without.remove(key);
            Optional<Fit> fit = attempt(plan, without);
            if (fit.isEmpty() || !fit.get().fits()) continue;
            chosen = without;
            best = fit.get();
        }
        return chosen.isEmpty() ? Optional.empty() : Optional.of(new Found(words(chosen), best));
    }

    /** Empty where a recipe refuses these keys together. */
    private static Optional<Fit> attempt(Function<List<String>, Fit> plan, Map<String, String> keys) {
        try {
            return Optional.of(plan.apply(words(keys)));
        } catch (Fail refused) {
            if (refused.code() != Fail.USAGE) throw refused;
            return Optional.empty();
        }
    }

    private static List<String> words(Map<String, String> keys) {
        return keys.entrySet().stream().map(e -> e.getKey() + "=" + e.getValue()).toList();
    }

    /** Keys and values to try: first those that change no result, then those that cost time, then those that train otherwise. */
    private static List<String[]> ways(Recipe r) {
        List<String[]> free = new ArrayList<>(), slow = new ArrayList<>(), other = new ArrayList<>();
        if (r.checkpoint().keep() > 1) free.add(new String[] {"checkpoint.keep", "1"});
        for (int b = r.eval().batch() / 2; b >= 1; b /= 2) free.add(new String[] {"eval.batch", "" + b});
        for (int i = 0; i < r.stages().size(); i++) {
            String name = Methods.nameOf(r.stages().get(i));
            boolean alone = r.stages().stream().map(Methods::nameOf).filter(name::equals).count() == 1;
            keys("stages." + (alone ? name : "" + i), (Record) r.stages().get(i), slow, other);
        }
        for (int t = r.data().length() / 2; t >= SHORTEST; t /= 2) other.add(new String[] {"data.length", "" + t});
        free.addAll(slow);
        free.addAll(other);
        return free;
    }

    private static void keys(String at, Record stage, List<String[]> slow, List<String[]> other) {
        for (RecordComponent c : stage.getClass().getRecordComponents()) {
            String key = at + "." + RecipeReader.key(c);
            switch (RecipeReader.get(c, stage).orElse(null)) {
                case Boolean no when !no && THRIFT.contains(c.getName()) -> slow.add(new String[] {key, "true"});
                case Integer parts when c.getName().equals("accumulate") -> {
                    for (int p = 2 * parts; p <= 1 << 10; p *= 2) slow.add(new String[] {key, "" + p});
                }
                case Integer batch when c.getName().equals("batch") -> {
                    for (int b = batch / 2; b >= 1; b /= 2) other.add(new String[] {key, "" + b});
                }
                case Record part when !(part instanceof Stage) -> keys(key, part, slow, other);
                case null, default -> { }
            }
        }
    }
}
