package dev.qat.watch;

import com.sun.net.httpserver.HttpServer;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.Locale;
import java.util.function.Supplier;

/** The pulse of a run as Prometheus reads it: GET /metrics answers gauges in the text format 0.0.4. */
final class Prometheus implements AutoCloseable {
    private final HttpServer server;

    /** @param port where to listen; 0 for any that is free */
    Prometheus(int port, String run, Supplier<Pulse> pulse) {
        try {
            server = HttpServer.create(new InetSocketAddress(port), 0);
        } catch (IOException e) {
            throw Fail.io(e, "observe.prometheus = %d: cannot listen there: %s. Choose another port, or 0 for no endpoint.", port, e.getMessage());
        }
        server.createContext("/metrics", exchange -> {
            byte[] text = text(run, pulse.get()).getBytes(StandardCharsets.UTF_8);
            exchange.getResponseHeaders().set("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
            exchange.sendResponseHeaders(200, text.length);
            try (OutputStream body = exchange.getResponseBody()) {
                body.write(text);
            }
        });
        server.start();
    }

    int port() {
        return server.getAddress().getPort();
    }

    private static String text(String run, Pulse p) {
        String labels = "{run=\"%s\",stage=\"%s\",block=\"%s\"}".formatted(quoted(run), quoted(p.stage()), p.block() < 0 ? "" : p.block());
        StringBuilder out = new StringBuilder();
        gauge(out, "qat_up", "1 while the run is at work", labels, p.state().equals(Pulse.RUNNING) ? 1 : 0);
        gauge(out, "qat_step", "steps taken in the loop at work", labels, p.step());
        gauge(out, "qat_steps", "steps of the loop at work", labels, p.steps());
        gauge(out, "qat_loss", "loss of the last step", labels, p.loss());
        gauge(out, "qat_learning_rate", "rate of the last step", labels, p.rate());
        gauge(out, "qat_step_seconds", "seconds a step takes, smoothed", labels, p.secondsPerStep());
        gauge(out, "qat_run_seconds", "seconds of work so far, of all processes", labels, p.seconds());
        return out.toString();
    }

    private static void gauge(StringBuilder out, String name, String help, String labels, double value) {
        out.append("# HELP %s %s\n# TYPE %s gauge\n".formatted(name, help, name));
        out.append(name).append(labels).append(' ').append(Double.isNaN(value) ? "NaN" : String.format(Locale.ROOT, "%s", value)).append('\n');
    }

    private static String quoted(String label) {
        return label.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n");
    }

    @Override
    public void close() {
        server.stop(0);
    }
}
