package dev.qat.cuda;

import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** One compiled function of a kernel file, and the parameters that its text declares: arguments are checked against them. */
public final class Kernel {
    private static final Pattern COMMENT = Pattern.compile("//[^\n]*|/\\*.*?\\*/", Pattern.DOTALL);
    private static final String BOUNDS = "(?:__launch_bounds__\\s*\\((?:[^()]|\\([^()]*\\))*\\)\\s*)?";
    private static final String HEAD = "__global__\\s+" + BOUNDS + "void\\s+" + BOUNDS;

    /** A parameter: its name, its C type, and what Java passes for it. */
    record Parameter(String name, String type, Class<?> java) {}

    public final String file, function;
    private final List<Parameter> parameters;
    final Object handle;
    int shared;                                   // bytes of dynamic shared memory the function is opted in for

    Kernel(String file, String function, List<Parameter> parameters, Object handle) {
        this.file = file;
        this.function = function;
        this.parameters = parameters;
        this.handle = handle;
    }

    /** The parameters of a kernel as its file declares them, in plain text: `extern "C" __global__ void name(…)`. */
    static List<Parameter> parameters(String file, String text, String function) {
        Matcher m = Pattern.compile(HEAD + Pattern.quote(function) + "\\s*\\(([^)]*)\\)").matcher(COMMENT.matcher(text).replaceAll(" "));
        Fail.unless(m.find(), "%s.cu declares no `extern \"C\" __global__ void %s(...)` in plain text", file, function);
        List<Parameter> all = new ArrayList<>();
        for (String p : m.group(1).isBlank() ? new String[0] : m.group(1).split(",")) all.add(parameter(file, function, p.strip()));
        return List.copyOf(all);
    }

    private static Parameter parameter(String file, String function, String text) {
        int end = text.length();
        while (end > 0 && (Character.isJavaIdentifierPart(text.charAt(end - 1)))) end--;
        String name = text.substring(end), type = text.substring(0, end).strip();
        String plain = type.replaceAll("\\b(const|__restrict__|volatile)\\b", "").replaceAll("\\s+", " ").strip();
        Class<?> java = plain.contains("*") ? Long.class : switch (plain) {
            case "int", "unsigned", "unsigned int" -> Integer.class;
            case "long long", "unsigned long long", "i64" -> Long.class;
            case "float" -> Float.class;
            default -> throw Fail.internal("%s.cu %s: parameter `%s` is neither a pointer nor int, unsigned, long long, float",
                file, function, text);
        };
        return new Parameter(name, type, java);
    }

    /** Writes the arguments into slots of 8 bytes, after checking their number and kinds. */
    void marshal(MemorySegment slots, Object[] args) {
        Fail.unless(args.length == parameters.size(), "%s.cu %s takes %d arguments, got %d", file, function,
            parameters.size(), args.length);
        for (int i = 0; i < args.length; i++) {
            long at = 8L * i;
            if (args[i] == null || args[i].getClass() != parameters.get(i).java) throw mismatch(i, args[i]);
            switch (args[i]) {
                case Long v -> slots.set(ValueLayout.JAVA_LONG, at, v);
                case Integer v -> slots.set(ValueLayout.JAVA_INT, at, v);
                case Float v -> slots.set(ValueLayout.JAVA_FLOAT, at, v);
                default -> throw mismatch(i, args[i]);
            }
        }
    }

    private Fail mismatch(int i, Object arg) {
        Parameter p = parameters.get(i);
        return Fail.internal("%s.cu %s: argument %d, `%s %s`, takes a %s, got %s", file, function, i + 1, p.type, p.name,
            p.java.getSimpleName(), arg == null ? "null" : arg.getClass().getSimpleName() + " " + arg);
    }

    /** A launch as an error shows it: op, kernel, grid, block, and every argument by name, shapes among them. */
    String describe(Blocks blocks, Object[] args) {
        StringBuilder s = new StringBuilder(this + " " + blocks + "(");
        for (int i = 0; i < args.length; i++) {
            Parameter p = parameters.get(i);
            s.append(i == 0 ? "" : ", ").append(p.name).append(" = ");
            s.append(p.type.contains("*") ? "0x%x".formatted((Long) args[i]) : args[i]);
        }
        return s.append(")").toString();
    }

    @Override
    public String toString() {
        return file + ".cu " + function;
    }
}
