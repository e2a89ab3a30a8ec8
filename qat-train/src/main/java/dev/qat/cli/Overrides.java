package dev.qat.cli;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Optional;
import java.util.Set;

/**
 * Lays the command line's {@code key=value} words over a recipe's tree, the later word winning.
 *
 * <p>A dotted key walks down the tree. Through a list it goes by index, counted from 0, or by a variant's name:
 * {@code stages.1.epochs=3}, {@code stages.block-ap.epochs=3}, or through every element that names the key: {@code stages.*.bits=3}. A value that opens with {@code [ { ' "} is YAML; any other
 * is taken as typed, and where a list is due it is cut at its commas.
 */
final class Overrides {
    private final Set<String> variantKeys;
    private final Mistakes mistakes;

    Overrides(Set<String> variantKeys, Mistakes mistakes) {
        this.variantKeys = variantKeys;
        this.mistakes = mistakes;
    }

    void apply(Node.Fields root, List<String> words) {
        for (String word : words) {
            String where = "override '" + word + "'";
            int equals = word.indexOf('=');
            List<String> path = List.of(word.substring(0, Math.max(equals, 0)).strip().split("\\.", -1));
            if (equals < 0) {
                mistakes.add(where, "has no '=', expected key=value, as in train.epochs=3");
            } else if (path.contains("")) {
                mistakes.add(where, "has an empty key, expected key=value, as in train.epochs=3");
            } else {
                value(where, word.substring(equals + 1).strip()).ifPresent(value -> set(root, path, 0, value));
            }
        }
    }

    private Optional<Node> value(String where, String text) {
        boolean yaml = !text.isEmpty() && "[{'\"".indexOf(text.charAt(0)) >= 0;
        return yaml ? Yaml.value(where, text, mistakes) : Optional.of(new Node.Scalar(text, true, where));
    }

    private void set(Node at, List<String> path, int depth, Node value) {
        String key = path.get(depth);
        boolean last = depth == path.size() - 1;
        switch (at) {
            case Node.Fields fields when last -> fields.map().put(key, new Node.Field(value.where(), value));
            case Node.Fields fields -> set(child(fields, key, value.where()), path, depth + 1, value);
            case Node.Items items when key.equals("*") && !last -> {
                List<Node> named = items.nodes().stream().filter(n -> n instanceof Node.Fields f && f.map().containsKey(path.get(depth + 1))).toList();
                if (named.isEmpty()) mistakes.add(value.where(), "no element of %s names '%s'", String.join(".", path.subList(0, depth)), path.get(depth + 1));
                named.forEach(n -> set(n, path, depth + 1, value));
            }
            case Node.Items items -> {
                int index = find(items.nodes(), key);
                if (index < 0) {
                    mistakes.add(value.where(), "%s has no element '%s'; it has %s",
                            String.join(".", path.subList(0, depth)), key, names(items.nodes()));
                } else if (last) {
                    items.nodes().set(index, value);
                } else {
                    set(items.nodes().get(index), path, depth + 1, value);
                }
            }
            default -> mistakes.add(value.where(), "%s is the single value %s, so it has no '%s'",
                    String.join(".", path.subList(0, depth)), at.got(), key);
        }
    }

    /** The node behind a key on the way; one that the file leaves out or leaves empty becomes a map. */
    private static Node child(Node.Fields fields, String key, String where) {
        Node.Field field = fields.map().get(key);
        if (field != null && !(field.node() instanceof Node.Nothing)) return field.node();
        Node made = new Node.Fields(new LinkedHashMap<>(), where);
        fields.map().put(key, new Node.Field(where, made));
        return made;
    }

    /** The index a list's element is meant by, or -1; a name that two elements share means neither. */
    private int find(List<Node> nodes, String key) {
        if (key.matches("\\d{1,6}")) return Integer.parseInt(key) < nodes.size() ? Integer.parseInt(key) : -1;
        List<Integer> found = new ArrayList<>();
        for (int i = 0; i < nodes.size(); i++) {
            if (name(nodes.get(i)).equals(key)) found.add(i);
        }
        return found.size() == 1 ? found.getFirst() : -1;
    }

    /** What a list offers to address, for an error message: {@code 0 (teq), 1 (block-ap)}. */
    private String names(List<Node> nodes) {
        if (nodes.isEmpty()) return "none";
        List<String> names = new ArrayList<>();
        for (Node node : nodes) names.add(names.size() + (name(node).isEmpty() ? "" : " (" + name(node) + ")"));
        return String.join(", ", names);
    }

    private String name(Node node) {
        if (!(node instanceof Node.Fields fields)) return "";
        return variantKeys.stream().map(fields.map()::get)
                .map(field -> field != null && field.node() instanceof Node.Scalar s ? s.text() : "")
                .filter(text -> !text.isEmpty()).findFirst().orElse("");
    }
}
