package dev.qat.cli;

import dev.qat.tensor.Fail;
import java.io.IOException;
import java.lang.reflect.Constructor;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Reads a recipe, one YAML file and the command line's overrides, into nested records, and reports every mistake at once.
 *
 * <p>A component {@code learningRate} is the key {@code learning-rate}. A key that is left out takes the component of the
 * default record around it: the parent's default where there is one, else the record's own
 * {@code static final DEFAULTS}. A {@code null} component in a default record means "must be given", as every component
 * does without a default record. A record's compact constructor may refuse its values with {@link Fail#usage}.
 */
public final class RecipeReader {
    /** Stands for a value that could not be read; its mistake is already noted. */
    private static final Object BROKEN = new Object();

    private final Map<Class<?>, Variants> variants;
    private final Mistakes mistakes = new Mistakes();

    private RecipeReader(Variants... variants) {
        this.variants = Stream.of(variants).collect(Collectors.toMap(Variants::type, v -> v));
    }

    /** The recipe as a record; throws one {@link Fail#usage} with a line for each mistake. */
    public static <R extends Record> R read(Path file, List<String> overrides, Class<R> type, Variants... variants) {
        RecipeReader reader = new RecipeReader(variants);
        Object recipe = reader.recipe(file, text(file), overrides, type);
        reader.mistakes.report(file.toString());
        return type.cast(recipe);
    }

    /** A record from {@code key=value} words alone, for a verb that takes no recipe. */
    static <R extends Record> R words(String verb, List<String> words, Class<R> type) {
        RecipeReader reader = new RecipeReader();
        Node.Fields root = new Node.Fields(new LinkedHashMap<>(), verb);
        new Overrides(Set.of(), reader.mistakes).apply(root, words);
        Object record = reader.record(type, root, ownDefaults(type), "", "");
        reader.mistakes.report(verb);
        return type.cast(record);
    }

    /** The record as YAML again, in the order of its components: reading this text gives an equal record. */
    public static String render(Record recipe, Variants... variants) {
        return RecipeWriter.write(recipe, variants);
    }

    /** The key of a component: {@code learningRate} is written {@code learning-rate}. */
    static String key(RecordComponent component) {
        return component.getName().replaceAll("(?<=[a-z0-9])(?=[A-Z])", "-").toLowerCase(Locale.ROOT);
    }

    private static String text(Path file) {
        if (Files.isDirectory(file)) throw Fail.usage("%s is a folder, expected a recipe, a YAML file", file);
        try {
            String text = Files.readString(file);
            return text.startsWith("\uFEFF") ? text.substring(1) : text;
        } catch (NoSuchFileException e) {
            throw Fail.usage("no recipe %s%s", file, Nearest.hint(file.toString(), neighbours(file)));
        } catch (CharacterCodingException e) {
            throw Fail.usage("%s is not UTF-8 text, expected a recipe, a YAML file", file);
        } catch (IOException e) {
            throw Fail.io(e, "cannot read the recipe %s: %s", file, e.getMessage());
        }
    }

    private static List<String> neighbours(Path file) {
        Path folder = file.toAbsolutePath().getParent();
        try (Stream<Path> list = Files.list(folder)) {
            return list.map(p -> file.resolveSibling(p.getFileName()).toString()).filter(p -> p.endsWith(".yaml")).toList();
        } catch (IOException e) {
            return List.of();                                // only a hint is lost
        }
    }

    private Object recipe(Path file, String text, List<String> overrides, Class<?> type) {
        Node root = Yaml.file(file.toString(), text, mistakes).orElse(new Node.Nothing(file.toString()));
        if (root instanceof Node.Nothing && mistakes.none()) {
            mistakes.add(root.where(), "is empty, expected a recipe with the keys %s", keys(type, ""));
        }
        if (!mistakes.none() && root instanceof Node.Nothing) return BROKEN;
        if (!(root instanceof Node.Fields fields)) {
            mistakes.add(root.where(), "got %s, expected a map with the keys %s", root.got(), keys(type, ""));
            return BROKEN;
        }
        new Overrides(variants.values().stream().map(Variants::key).collect(Collectors.toSet()), mistakes)
                .apply(fields, overrides);
        return record(type, fields, ownDefaults(type), "", "");
    }

    /** Any value, by the type of the component it is for; {@code otherwise} is the default record beneath a record. */
    private Object value(Type type, Node node, Object otherwise, String path) {
        if (node instanceof Node.Nothing) {
            mistakes.add(node.where(), "%s: has no value; give it one, or take the line out", path);
            return BROKEN;
        }
        if (type instanceof ParameterizedType generic && generic.getRawType() == List.class) {
            return list(generic.getActualTypeArguments()[0], node, path);
        }
        Class<?> plain = (Class<?>) type;
        if (!plain.isRecord() && !variants.containsKey(plain)) return scalar(plain, node, path);
        if (!(node instanceof Node.Fields fields)) {
            mistakes.add(node.where(), "%s: got %s, expected a map", path, node.got());
            return BROKEN;
        }
        return plain.isRecord() ? record(plain, fields, otherwise, path, "") : variant(variants.get(plain), fields, path);
    }

    private Object scalar(Class<?> type, Node node, String path) {
        Fail.unless(ScalarReader.reads(type), "%s: recipes do not know how to read a %s", path, type.getName());
        String got = node instanceof Node.Scalar s ? s.text() : "";
        if (node instanceof Node.Scalar) {
            try {
                return ScalarReader.parse(type, got);
            } catch (IllegalArgumentException e) {
                // noted below, with what was expected
            }
        }
        mistakes.add(node.where(), "%s: got %s, expected %s", path, node.got(), ScalarReader.expected(type, got));
        return BROKEN;
    }

    private Object list(Type of, Node node, String path) {
        if (!(node instanceof Node.Items) && !(node instanceof Node.Scalar s && s.typed())) {
            mistakes.add(node.where(), "%s: got %s, expected a list, as in [a, b]", path, node.got());
            return BROKEN;
        }
        List<Object> values = new ArrayList<>();
        for (Node element : elements(node)) values.add(value(of, element, BROKEN, path + "." + values.size()));
        return values.contains(BROKEN) ? BROKEN : List.copyOf(values);
    }

    /** A list's elements; one typed as an override is cut at its commas. */
    private static List<Node> elements(Node list) {
        return switch (list) {
            case Node.Items items -> items.nodes();
            case Node.Scalar s when s.typed() && !s.text().isEmpty() -> Stream.of(s.text().split(","))
                    .<Node>map(part -> new Node.Scalar(part.strip(), true, s.where())).toList();
            default -> List.of();
        };
    }

    private Object variant(Variants choice, Node.Fields fields, String path) {
        Node.Field field = fields.map().get(choice.key());
        String names = String.join(", ", choice.records().keySet());
        if (field == null) {
            mistakes.add(fields.where(), "%s: has no '%s', expected one of %s", path, choice.key(), names);
            return BROKEN;
        }
        String name = field.node() instanceof Node.Scalar s ? s.text() : "";
        Class<? extends Record> type = choice.records().get(name);
        if (type == null) {
            mistakes.add(field.node().where(), "%s.%s: got %s, expected one of %s%s", path, choice.key(),
                    field.node().got(), names, Nearest.hint(name, choice.records().keySet()));
            return BROKEN;
        }
        return record(type, fields, ownDefaults(type), path, choice.key());
    }

    /** One record; {@code tag} is the key that chose it among variants and belongs to no component, or empty. */
    private Object record(Class<?> type, Node.Fields fields, Object otherwise, String path, String tag) {
        RecordComponent[] components = type.getRecordComponents();
        Object defaults = otherwise == BROKEN ? ownDefaults(type) : otherwise;
        Object[] values = new Object[components.length];
        for (int i = 0; i < values.length; i++) {
            Object usual = defaults == BROKEN ? BROKEN : get(components[i], defaults).orElse(BROKEN);
            values[i] = component(components[i], fields, usual, path);
        }
        refuseUnknown(type, fields, path, tag);
        if (Arrays.asList(values).contains(BROKEN)) return BROKEN;
        return construct(type, values, fields, path);
    }

    private Object component(RecordComponent component, Node.Fields fields, Object usual, String path) {
        String key = key(component), below = path.isEmpty() ? key : path + "." + key;
        Node.Field field = fields.map().get(key);
        if (field != null) return value(component.getGenericType(), field.node(), usual, below);
        // A record left out whole still has to be read: it may lack a key that must be given, and then says so.
        if (component.getType().isRecord()) {
            Node.Fields none = new Node.Fields(new LinkedHashMap<>(), fields.where());
            return record(component.getType(), none, usual, below, "");
        }
        if (usual != BROKEN) return usual;
        String expected = component.getType() == List.class ? "a list"
                : variants.containsKey(component.getType()) ? "a map" : ScalarReader.expected(component.getType(), "");
        mistakes.add(fields.where(), "%s: missing, expected %s", below, expected);
        return BROKEN;
    }

    private void refuseUnknown(Class<?> type, Node.Fields fields, String path, String tag) {
        TreeSet<String> known = keys(type, tag);
        fields.map().forEach((key, field) -> {
            if (known.contains(key)) return;
            String hint = Nearest.hint(key, known);
            mistakes.add(field.where(), "%s: no such key%s Known here: %s", path.isEmpty() ? key : path + "." + key,
                    hint.isEmpty() ? "." : hint, known.isEmpty() ? "none" : String.join(", ", known));
        });
    }

    private static TreeSet<String> keys(Class<?> type, String tag) {
        TreeSet<String> keys = new TreeSet<>();
        for (RecordComponent component : type.getRecordComponents()) keys.add(key(component));
        if (!tag.isEmpty()) keys.add(tag);
        return keys;
    }

    private Object construct(Class<?> type, Object[] values, Node.Fields fields, String path) {
        Class<?>[] types = Stream.of(type.getRecordComponents()).map(RecordComponent::getType).toArray(Class<?>[]::new);
        try {
            Constructor<?> constructor = type.getDeclaredConstructor(types);
            constructor.setAccessible(true);
            return constructor.newInstance(values);
        } catch (InvocationTargetException e) {
            if (!(e.getCause() instanceof Fail refusal)) throw new IllegalStateException("making a " + type, e.getCause());
            mistakes.add(blame(type, refusal.getMessage(), fields), "%s%s", path.isEmpty() ? "" : path + ": ",
                    refusal.getMessage());
            return BROKEN;
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException("making a " + type, e);
        }
    }

    /** Where to look for a refused value: the line of the key its message names, else of the whole record. */
    private static String blame(Class<?> type, String message, Node.Fields fields) {
        return Stream.of(type.getRecordComponents())
                .filter(c -> List.of(message.split("[^\\w-]+")).stream()
                        .anyMatch(word -> word.equals(c.getName()) || word.equals(key(c))))
                .map(c -> fields.whereIs(key(c))).findFirst().orElse(fields.where());
    }

    private static Object ownDefaults(Class<?> type) {
        try {
            var field = type.getDeclaredField("DEFAULTS");
            field.setAccessible(true);
            return field.get(null);
        } catch (NoSuchFieldException e) {
            return BROKEN;                                   // no default record: every component must be given
        } catch (IllegalAccessException e) {
            throw new IllegalStateException("reading the defaults of " + type, e);
        }
    }

    /** A record's component; empty where it is null. */
    static Optional<Object> get(RecordComponent component, Object record) {
        try {
            component.getAccessor().setAccessible(true);
            return Optional.ofNullable(component.getAccessor().invoke(record));
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException("reading " + component, e);
        }
    }
}
