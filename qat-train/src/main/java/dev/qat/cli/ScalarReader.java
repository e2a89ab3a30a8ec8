package dev.qat.cli;

import java.math.BigDecimal;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;

/** Turns a recipe's text into the single values a record can hold, and says what it expected where it cannot. */
final class ScalarReader {
    private ScalarReader() {}

    static boolean reads(Class<?> type) {
        return type.isEnum() || type == String.class || type == Path.class || type == boolean.class
                || type == Boolean.class || isWhole(type) || isReal(type);
    }

    /** The value, or an {@link IllegalArgumentException} when {@code text} is no {@link #expected} of this type. */
    static Object parse(Class<?> type, String text) {
        if (type == String.class) return text;
        if (type == Path.class) return path(text);
        if (type.isEnum()) return constant(type, text);
        if (isWhole(type)) return whole(type, text);
        if (isReal(type)) return real(type, text);
        return switch (text.toLowerCase(Locale.ROOT)) {
            case "true" -> true;
            case "false" -> false;
            default -> throw new IllegalArgumentException(text);
        };
    }

    /** What a component of this type takes, as the end of "expected …". */
    static String expected(Class<?> type, String got) {
        if (type == String.class) return "text";
        if (type == Path.class) return "a path";
        if (type.isEnum()) return "one of " + String.join(", ", names(type)) + Nearest.hint(got, names(type));
        if (type == int.class || type == Integer.class) return "a whole number up to " + Integer.MAX_VALUE;
        return isWhole(type) ? "a whole number" : isReal(type) ? "a number" : "true or false";
    }

    /** An enum constant as recipes write it: {@code PER_GROUP} is {@code per-group}. */
    static String name(Object constant) {
        return ((Enum<?>) constant).name().toLowerCase(Locale.ROOT).replace('_', '-');
    }

    private static List<String> names(Class<?> type) {
        return Stream.of(type.getEnumConstants()).map(ScalarReader::name).toList();
    }

    private static boolean isWhole(Class<?> type) {
        return type == int.class || type == Integer.class || type == long.class || type == Long.class;
    }

    private static boolean isReal(Class<?> type) {
        return type == double.class || type == Double.class || type == float.class || type == Float.class;
    }

    private static Object constant(Class<?> type, String text) {
        String name = text.toLowerCase(Locale.ROOT).replace('_', '-');
        return Arrays.stream(type.getEnumConstants()).filter(c -> name(c).equals(name)).findFirst()
                .orElseThrow(() -> new IllegalArgumentException(text));
    }

    private static Path path(String text) {
        if (text.isBlank()) throw new IllegalArgumentException("an empty path");
        // The shell leaves the tilde of model.path=~/models alone, so it is ours to expand.
        String home = System.getProperty("user.home");
        try {
            return Path.of(text.equals("~") || text.startsWith("~/") ? home + text.substring(1) : text);
        } catch (InvalidPathException e) {
            throw new IllegalArgumentException(text, e);
        }
    }

    /** Whole numbers may be written {@code 100_000} or {@code 1e5}, as long as they come out whole. */
    private static Object whole(Class<?> type, String text) {
        try {
            BigDecimal number = decimal(text);
            boolean small = type == int.class || type == Integer.class;
            if (small) return number.intValueExact();
            return number.longValueExact();
        } catch (ArithmeticException e) {
            throw new IllegalArgumentException(text, e);
        }
    }

    private static Object real(Class<?> type, String text) {
        double value = decimal(text).doubleValue();
        boolean single = type == float.class || type == Float.class;
        if (single && Float.isFinite((float) value)) return Float.parseFloat(text.replace("_", ""));
        if (!single && Double.isFinite(value)) return value;
        throw new IllegalArgumentException(text);
    }

    /** BigDecimal, because {@code Double.parseDouble} also takes {@code NaN}, {@code 1f} and hexadecimal. */
    private static BigDecimal decimal(String text) {
        return new BigDecimal(text.matches(".*\\d_\\d.*") ? text.replace("_", "") : text);
    }
}
