package dev.qat.cli;

import com.fasterxml.jackson.dataformat.yaml.YAMLFactory;
import com.fasterxml.jackson.dataformat.yaml.YAMLGenerator;
import com.fasterxml.jackson.dataformat.yaml.YAMLGenerator.Feature;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.io.StringWriter;
import java.lang.reflect.RecordComponent;
import java.util.List;
import java.util.Optional;

/** Writes a resolved recipe as YAML, keys in the order of the record's components. */
final class RecipeWriter {
    private static final YAMLFactory YAML = YAMLFactory.builder()
            .disable(Feature.WRITE_DOC_START_MARKER, Feature.SPLIT_LINES)
            .enable(Feature.MINIMIZE_QUOTES, Feature.INDENT_ARRAYS_WITH_INDICATOR)
            .build();

    private final YAMLGenerator out;
    private final List<Variants> variants;

    private RecipeWriter(YAMLGenerator out, Variants... variants) {
        this.out = out;
        this.variants = List.of(variants);
    }

    static String write(Record recipe, Variants... variants) {
        StringWriter text = new StringWriter();
        try (YAMLGenerator out = YAML.createGenerator(text)) {
            new RecipeWriter(out, variants).record(recipe);
        } catch (IOException e) {
            throw new IllegalStateException("writing to a string", e);
        }
        return text.toString();
    }

    private void value(Object value) throws IOException {
        switch (value) {
            case Record record -> record(record);
            case List<?> list -> list(list);
            case Integer number -> out.writeNumber(number);
            case Long number -> out.writeNumber(number);
            case Float number -> out.writeNumber(number);
            case Double number -> out.writeNumber(number);
            case Boolean truth -> out.writeBoolean(truth);
            case Enum<?> constant -> out.writeString(ScalarReader.name(constant));
            default -> {
                Fail.unless(ScalarReader.reads(value.getClass()) || value instanceof java.nio.file.Path,
                        "recipes do not know how to write a %s", value.getClass().getName());
                out.writeString(value.toString());
            }
        }
    }

    private void record(Record record) throws IOException {
        out.writeStartObject();
        Optional<Variants> choice = variants.stream().filter(v -> v.type().isInstance(record)).findFirst();
        if (choice.isPresent()) {
            out.writeStringField(choice.get().key(), choice.get().nameOf(record.getClass()));
        }
        for (RecordComponent component : record.getClass().getRecordComponents()) {
            Optional<Object> value = RecipeReader.get(component, record);
            if (value.isEmpty()) continue;                   // a null says "must be given", which no key also says
            out.writeFieldName(RecipeReader.key(component));
            value(value.get());
        }
        out.writeEndObject();
    }

    private void list(List<?> list) throws IOException {
        out.writeStartArray();
        for (Object value : list) value(value);
        out.writeEndArray();
    }
}
