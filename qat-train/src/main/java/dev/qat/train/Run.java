package dev.qat.train;

import dev.qat.data.Windows;
import dev.qat.export.Target;
import dev.qat.method.Rule;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.ops.Backend;
import dev.qat.ops.Ops;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import dev.qat.watch.Metrics;
import dev.qat.watch.Watch;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.DoubleSupplier;
import java.util.function.Supplier;
import java.util.stream.Collectors;

/** What the stages of a run share: the student, its full-precision teacher, the windows, and the codes made so far. */
public final class Run {
    private final Recipe recipe;
    private final Backend backend;
    private final Model student, teacher;
    private final TrainingSet data;
    private final Watch watch;
    private final Metrics metrics;
    private final Journal journal;
    private final double peak;
    private final Plan plan;
    private final Rule rule;
    private final Map<Linear, PackedWeight> packed = new LinkedHashMap<>();
    /** Allocations behind the codes in use. */
    private final List<Long> owned = new ArrayList<>();
    private final Map<String, Double> notes = new LinkedHashMap<>();
    private Gauge gauge;

    private record Gauge(String name, int every, DoubleSupplier read) {}

    Run(Recipe recipe, Backend backend, Model student, Model teacher, TrainingSet data, Watch watch, Metrics metrics, Journal journal, double peak) {
        this(recipe, backend, student, teacher, data, watch, metrics, journal, peak, null);
    }

    private Run(Recipe recipe, Backend backend, Model student, Model teacher, TrainingSet data, Watch watch, Metrics metrics, Journal journal, double peak, Plan plan) {
        this.recipe = recipe;
        this.backend = backend;
        this.student = student;
        this.teacher = teacher;
        this.data = data;
        this.watch = watch;
        this.metrics = metrics;
        this.journal = journal;
        this.peak = peak;
        this.plan = plan;
        this.rule = Target.of(recipe.target()).rule();
    }

    /** A run on shapes alone: every loop notes what one of its steps costs, and does none. */
    static Run planned(Recipe recipe, Backend shape, Model student, Model teacher, TrainingSet data, Plan plan) {
        return new Run(recipe, shape, student, teacher, data, Watch.NOBODY, null, Journal.none(), Double.NaN, plan);
    }

    /** Whether this run only notes what it would cost: nothing that is computed means anything. */
    public boolean planned() {
        return plan != null;
    }

    /** Where costs are noted when nothing is to be done; null in a run that works. */
    Plan plan() {
        return plan;
    }

    public Recipe recipe() {
        return recipe;
    }

    public Backend backend() {
        return backend;
    }

    public Model student() {
        return student;
    }

    /** The full-precision model, all of it in memory from the first time it is asked for to the end of the stage. */
    public Model teacher() {
        if (teacher != student) teacher.bring();
        return teacher;
    }

    /** The same as it is: its blocks may have to be brought into memory. */
    Model source() {
        return teacher;
    }

    /** The training windows a stage asks for. */
    public Windows windows(Part part) {
        return data.part(part);
    }

    public Watch watch() {
        return watch;
    }

    public Metrics metrics() {
        return metrics;
    }

    /** What is kept so that the run can go on after its process died. */
    Journal journal() {
        return journal;
    }

    /** Operations per second of a large product on this backend, the "peak" that progress lines compare with. */
    public double peak() {
        return peak;
    }

    /** What the recipe's target demands of codes. */
    public Rule rule() {
        return rule;
    }

    /** The codes of every linear quantized so far. */
    public Map<Linear, PackedWeight> packed() {
        return packed;
    }

    /**
     * What a stage finds out about a block without an optimizer, as bytes: made by {@code work}, or taken from
     * what an earlier process kept. Calls come in the same order in every process.
     *
     * @param bytes what is kept of it, for plans, whose work finds nothing
     */
    public List<MemorySegment> once(String stage, int block, long bytes, Supplier<List<MemorySegment>> work) {
        if (plan == null) return journal.once(new Trainer.Name(stage, block), work);
        plan.kept(bytes, 0, 0);
        return work.get();
    }

    /** In the middle of work that can be done again: ends the run here if that was asked for. */
    public void pause(String stage, int block) {
        journal.pause("in block %d of %s".formatted(block, stage));
    }

    /** Runs a stage of this run. One that does not stream finds every weight of the student in memory, an fp32 master. */
    void perform(Stage stage) {
        if (!stage.streams()) student.masters();
        stage.run(this);
        if (teacher != student) teacher.blocks().forEach(teacher::forget);
    }

    /** From here on the weights of these linears are their codes times steps, and their biases have what the codes add. */
    public void use(List<Linear> linears, List<PackedWeight> codes) {
        Set<Long> slabs = backend.memory().slabs().stream().map(Memory.Slab::address).collect(Collectors.toSet());
        List<Long> owned = new ArrayList<>(); // parts of several codes may lie in one allocation, which is known by its beginning
        for (PackedWeight p : codes) {
            for (Tensor part : new Tensor[] {p.words(), p.step(), p.zero(), p.bias()}) {
                if (part != null && slabs.contains(part.address) && !owned.contains(part.address)) owned.add(part.address);
            }
        }
        use(linears, codes, owned);
    }

    /** The same for codes that lie in allocations of their own kind, which this run frees when it {@link #forget}s them all. */
    void use(List<Linear> linears, List<PackedWeight> codes, List<Long> slabs) {
        for (int i = 0; i < codes.size(); i++) {
            PackedWeight p = codes.get(i);
            Linear linear = linears.get(i);
            packed.put(linear, p);
            linear.weightSite.clear();
            linear.weightSite.addBrief((t, w) -> Ops.dequantize(t, p, rule.frozen(t, p.step())));
            linear.biasSite.clear();
            if (p.bias() != null) linear.biasSite.add((t, b) -> b == null ? p.bias() : Ops.add(t, b, p.bias()));
        }
        owned.addAll(slabs);
    }

    /** Takes all codes out of use and gives their memory back. */
    void forget() {
        packed.keySet().forEach(linear -> {
            linear.weightSite.clear();
            linear.biasSite.clear();
        });
        owned.forEach(backend.memory()::free);
        owned.clear();
        packed.clear();
    }

    /** Forgets all codes: the sites are empty and the weights are the masters again; those that codes had replaced come from the source. */
    public void reset() {
        student.clearSites();
        forget();
    }

    /** Writes what the codes stand for into the weights and biases that are in memory, and empties their sites: the plain model that computes the same. */
    public void bake() {
        packed.replaceAll((linear, codes) -> {
            rule.settle(backend, codes.step());
            if (!linear.weight.resident()) return codes;
            backend.dequantize(linear.weight.value(), codes, codes.step());
            linear.weightSite.clear();
            linear.biasSite.clear();
            if (codes.bias() == null) return codes;
            Tensor sum = backend.memory().tensor(linear.name + ".bias", codes.bias().dims());
            if (linear.bias == null) backend.copy(sum, codes.bias());
            else backend.add(sum, linear.bias.value(), codes.bias());
            linear.bias(sum);
            return new PackedWeight(codes.name(), codes.bits(), codes.group(), codes.cols(), codes.words(), codes.step(), codes.zero(), null);
        });
    }

    /** Has a number written beside the loss of every so many steps of the loop that follows, such as the share of dead weights. */
    public void gauge(String name, int every, DoubleSupplier read) {
        gauge = new Gauge(name, every, read);
    }

    public void noGauge() {
        gauge = null;
    }

    /** Whether the gauge is read right after a step. */
    boolean reads(long step, long total) {
        return gauge != null && (step % gauge.every == 0 || step == total - 1);
    }

    /** What the gauge reads at a step, if it is time. */
    Map<String, Double> readings(long step, long total) {
        return reads(step, total) ? Map.of(gauge.name, gauge.read.getAsDouble()) : Map.of();
    }

    /** Notes a number of the stage that is running, for result.json. */
    public void note(String name, double value) {
        notes.put(name, value);
    }

    /** The notes since the last call. */
    Map<String, Double> takeNotes() {
        Map<String, Double> all = new LinkedHashMap<>(notes);
        notes.clear();
        return all;
    }
}
