package dev.qat.data;

import com.fasterxml.jackson.databind.JsonNode;
import dev.qat.tensor.Fail;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * The token ids that begin and end a text, as a model directory declares them.
 *
 * <p>{@code bos} is −1 where there is none; {@code eos} may hold several ids, any of which stops a generation, or none.
 */
public record SpecialIds(int bos, int[] eos) {
    /** Reads generation_config.json, and config.json for what the first does not say; missing files say nothing. */
    public static SpecialIds of(Path dir) {
        int bos = -1;
        int[] eos = {};
        for (String name : new String[] {"generation_config.json", "config.json"}) {
            Path file = dir.resolve(name);
            if (!Files.isRegularFile(file)) continue;
            JsonNode node = Json.object(file);
            if (bos < 0 && node.hasNonNull("bos_token_id")) bos = id(file, "bos_token_id", node.get("bos_token_id"));
            if (eos.length == 0 && node.hasNonNull("eos_token_id")) eos = ids(file, node.get("eos_token_id"));
        }
        return new SpecialIds(bos, eos);
    }

    private static int[] ids(Path file, JsonNode value) {
        if (!value.isArray()) return new int[] {id(file, "eos_token_id", value)};
        int[] ids = new int[value.size()];
        for (int i = 0; i < ids.length; i++) ids[i] = id(file, "eos_token_id", value.get(i));
        return ids;
    }

    private static int id(Path file, String key, JsonNode value) {
        if (value.isIntegralNumber() && value.canConvertToInt() && value.intValue() >= 0) return value.intValue();
        throw Fail.data("%s: %s is %s, expected a token id (for eos: or a list of them); correct the file", file, key, value);
    }
}
