package dev.qat.cli;

import java.util.List;
import java.util.Map;

/**
 * A recipe as it was written, before any types: the YAML tree, each part with the place a person finds it at.
 *
 * <p>The place is {@code file:line:column}, or the override that was typed; it is what an error message opens with.
 * Lists and maps can be changed, because overrides are laid over the tree before it is read into records.
 */
sealed interface Node {
    String where();

    /** One value, still text: the record's component decides what it means, so {@code no} is never a surprise boolean. */
    record Scalar(String text, boolean typed, String where) implements Node {}

    /** A key with no value behind it, {@code ~} or {@code null}. */
    record Nothing(String where) implements Node {}

    record Items(List<Node> nodes, String where) implements Node {}

    record Fields(Map<String, Field> map, String where) implements Node {
        /** The place to blame for a key: its own line where it was written, else the line of the map around it. */
        String whereIs(String key) {
            return map.containsKey(key) ? map.get(key).where() : where;
        }
    }

    /** A key's place and what stands behind it. */
    record Field(String where, Node node) {}

    /** What an error message says it got. */
    default String got() {
        return switch (this) {
            case Scalar s -> "'" + s.text() + "'";
            case Nothing _ -> "nothing";
            case Items _ -> "a list";
            case Fields _ -> "a map";
        };
    }
}
