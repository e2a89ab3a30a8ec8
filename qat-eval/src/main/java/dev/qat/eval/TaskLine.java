package dev.qat.eval;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.qat.tensor.Fail;
import java.util.ArrayList;
import java.util.List;

/** One line of a task's file, with its place in every complaint. */
record TaskLine(JsonNode node, String origin) {
    private static final ObjectMapper JSON = new ObjectMapper();

    static TaskLine parse(String line, String origin) {
        try {
            return new TaskLine(JSON.readTree(line), origin);
        } catch (JsonProcessingException e) {
            throw Fail.data("%s: not valid JSON (%s); every line is one item, {...}", origin, e.getOriginalMessage().lines().findFirst().orElse(""));
        }
    }

    boolean has(String key) {
        return node.hasNonNull(key);
    }

    String text(String key) {
        if (!node.path(key).isTextual()) throw wrong(key, "a text");
        return node.get(key).textValue();
    }

    List<String> texts(String key) {
        List<String> all = new ArrayList<>();
        for (JsonNode n : node.path(key)) {
            if (!n.isTextual()) throw wrong(key, "a list of texts");
            all.add(n.textValue());
        }
        if (all.isEmpty()) throw wrong(key, "a list of texts");
        return all;
    }

    /** Which of {@code choices} is right; some files write the number as a text. */
    int label(int choices) {
        int label = node.path("label").asInt(-1);
        if (label < 0 || label >= choices) throw wrong("label", "a whole number from 0 to " + (choices - 1));
        return label;
    }

    Task.Item item(List<Task.Choice> choices, int label) {
        return new Task.Item(choices, label, origin);
    }

    Fail wrong(String key, String expected) {
        return Fail.data("%s: %s is %s, expected %s; is this the file of another task?", origin, key, has(key) ? node.get(key) : "missing", expected);
    }
}
