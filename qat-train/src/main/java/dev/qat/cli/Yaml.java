package dev.qat.cli;

import com.fasterxml.jackson.core.JsonLocation;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.io.ContentReference;
import com.fasterxml.jackson.dataformat.yaml.YAMLFactory;
import com.fasterxml.jackson.dataformat.yaml.YAMLParser;
import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;
import org.yaml.snakeyaml.error.MarkedYAMLException;

/**
 * Reads YAML text into a tree that remembers where each part stood.
 *
 * <p>Jackson's tree forgets line numbers, so this walks its tokens. Duplicate keys and aliases are refused: a recipe says
 * each thing once, in plain sight.
 */
final class Yaml {
    private static final YAMLFactory YAML = new YAMLFactory();

    private final YAMLParser in;
    private final Function<JsonLocation, String> where;
    private final Mistakes mistakes;

    private Yaml(YAMLParser in, Function<JsonLocation, String> where, Mistakes mistakes) {
        this.in = in;
        this.where = where;
        this.mistakes = mistakes;
    }

    /** The tree of a file's text; empty when the text holds nothing or is not YAML, which is then among the mistakes. */
    static Optional<Node> file(String name, String text, Mistakes mistakes) {
        return read(text, at -> name + ":" + at.getLineNr() + ":" + at.getColumnNr(), mistakes);
    }

    /** The tree of a value typed on the command line: every part of it stands at {@code where}. */
    static Optional<Node> value(String where, String text, Mistakes mistakes) {
        return read(text, _ -> where, mistakes);
    }

    private static Optional<Node> read(String text, Function<JsonLocation, String> where, Mistakes mistakes) {
        try (YAMLParser in = YAML.createParser(text)) {
            if (in.nextToken() == null) return Optional.empty();
            Yaml yaml = new Yaml(in, where, mistakes);
            Node root = yaml.node();
            if (in.nextToken() != null) mistakes.add(yaml.here(), "a second document starts, expected one per file");
            return Optional.of(root);
        } catch (JsonProcessingException e) {
            mistakes.add(where.apply(location(e)), "not valid YAML: %s", reason(e));
            return Optional.empty();
        } catch (IOException e) {
            throw new IllegalStateException("reading from a string", e);
        }
    }

    /** Where the trouble is; Jackson itself gives the place at which the part that holds it began. */
    private static JsonLocation location(JsonProcessingException e) {
        if (!(e.getCause() instanceof MarkedYAMLException yaml) || yaml.getProblemMark() == null) return e.getLocation();
        return new JsonLocation(ContentReference.unknown(), -1, yaml.getProblemMark().getLine() + 1,
                yaml.getProblemMark().getColumn() + 1);
    }

    private static String reason(JsonProcessingException e) {
        String all = e.getCause() instanceof MarkedYAMLException yaml && yaml.getProblem() != null
                ? yaml.getProblem() : e.getOriginalMessage();
        return all.lines().findFirst().orElse("unreadable");
    }

    private Node node() throws IOException {
        String here = here();
        if (in.isCurrentAlias()) {
            mistakes.add(here, "*%s is an alias, which recipes do not use; write the value out", in.getText());
            return new Node.Scalar(in.getText(), false, here);
        }
        return switch (in.currentToken()) {
            case START_OBJECT -> fields(here);
            case START_ARRAY -> items(here);
            case VALUE_NULL -> new Node.Nothing(here);
            default -> new Node.Scalar(in.getText(), false, here);
        };
    }

    private Node items(String here) throws IOException {
        List<Node> nodes = new ArrayList<>();
        while (in.nextToken() != JsonToken.END_ARRAY) nodes.add(node());
        return new Node.Items(nodes, here);
    }

    private Node fields(String here) throws IOException {
        Map<String, Node.Field> map = new LinkedHashMap<>();
        while (in.nextToken() != JsonToken.END_OBJECT) {
            String key = in.currentName(), place = here();
            in.nextToken();
            Node.Field first = map.putIfAbsent(key, new Node.Field(place, node()));
            if (first != null) mistakes.add(place, "'%s' is here a second time, first at %s", key, first.where());
        }
        return new Node.Fields(map, here);
    }

    private String here() {
        return where.apply(in.currentTokenLocation());
    }
}
