package dev.qat.cli;

import dev.qat.tensor.Fail;
import java.lang.reflect.RecordComponent;
import java.util.HashSet;
import java.util.Map;
import java.util.TreeMap;

/**
 * The records that may stand where a recipe's record says {@code type}: a map in the YAML names one by its {@code key}.
 *
 * <p>With {@code new Variants(Stage.class, "method", Map.of("lsq", Lsq.Config.class))} the YAML map
 * {@code {method: lsq, bits: 4}} is read as an {@code Lsq.Config}. Each name has its own record, so that a record can be
 * written back under its name.
 */
public record Variants(Class<?> type, String key, Map<String, Class<? extends Record>> records) {
    public Variants {
        records = new TreeMap<>(records);
        Fail.unless(new HashSet<>(records.values()).size() == records.size(),
                "two variants of %s share one record: %s", type.getSimpleName(), records);
        for (var entry : records.entrySet()) {
            Class<? extends Record> record = entry.getValue();
            Fail.unless(type.isAssignableFrom(record),
                    "the variant '%s' is read as %s, which is no %s", entry.getKey(), record.getName(), type.getName());
            for (RecordComponent component : record.getRecordComponents()) {
                Fail.unless(!component.getName().equals(key),
                        "%s has a component '%s', the key that names the variant", record.getName(), key);
            }
        }
    }

    /** The name under which a record of this kind is written. */
    String nameOf(Class<?> record) {
        return records.entrySet().stream().filter(e -> e.getValue() == record).map(Map.Entry::getKey).findFirst()
                .orElseThrow(() -> Fail.internal("%s is not among the variants of %s: %s",
                        record.getName(), type.getSimpleName(), records.keySet()));
    }
}
