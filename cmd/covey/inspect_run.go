package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/train"
)

// runView is a run folder.
type runView struct {
	Run         string            `json:"run"`
	Job         map[string]string `json:"job"`
	Checkpoints []savedView       `json:"checkpoints"`
	Epochs      []train.EpochLine `json:"epochs"`
	LastStep    *train.StepLine   `json:"last_step,omitempty"`
	Report      *ending           `json:"report,omitempty"` // of the last process that trained, when it got to its end

	job *job.Job
}

// savedView is a checkpoint of a run. One that is not whole says so in Error.
type savedView struct {
	Path    string `json:"path"`
	Step    int    `json:"step"`
	Epoch   int    `json:"epoch"`
	Bytes   int64  `json:"bytes"`
	Weights string `json:"weights_sha256,omitempty"`
	Error   string `json:"error,omitempty"`
}

// inspectRun returns what there is to show, together with an error when a checkpoint or the metrics are damaged.
func inspectRun(dir string) (view, error) {
	v := &runView{Run: dir, Job: map[string]string{}, Checkpoints: []savedView{}, Epochs: []train.EpochLine{}}
	var err error
	if v.job, err = job.Load(filepath.Join(dir, jobFile)); err != nil {
		return nil, err
	}
	for _, k := range job.Keys() {
		v.Job[k.Name] = v.job.Get(k.Name)
	}
	all, err := ckpt.List(savedAt(dir))
	if err != nil {
		return nil, err
	}
	var damage []error
	for _, e := range all {
		s := savedView{Path: e.Path, Step: e.Step}
		m, err := ckpt.Verify(e.Path)
		if err != nil {
			damage = append(damage, err)
			s.Error = err.Error()
		} else {
			s.Epoch, s.Weights = m.Epoch, m.WeightsSHA256
			for _, f := range m.Files {
				s.Bytes += f.Size
			}
		}
		v.Checkpoints = append(v.Checkpoints, s)
	}
	if err := v.readMetrics(filepath.Join(dir, train.MetricsFile)); err != nil {
		damage = append(damage, err)
	}
	if v.Report, err = readReport(dir); err != nil {
		damage = append(damage, err)
	}
	if len(damage) > 0 {
		return v, corrupt(errors.Join(damage...))
	}
	return v, nil
}

// readMetrics keeps the ends of epochs and the last step. A last line without its end is one that is being written.
func (v *runView) readMetrics(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReader(f)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		var e train.EpochLine
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("%s, line %d: not a line of metrics: %w", path, n, err)
		}
		if e.Epoch > 0 {
			v.Epochs = append(v.Epochs, e)
			continue
		}
		s := &train.StepLine{}
		if err := json.Unmarshal(line, s); err != nil {
			return fmt.Errorf("%s, line %d: not a line of metrics: %w", path, n, err)
		}
		v.LastStep = s
	}
}

// readReport reads a run's report, nil when there is none.
func readReport(run string) (*ending, error) {
	path := filepath.Join(run, reportFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e := &ending{}
	if err := json.Unmarshal(b, e); err != nil {
		return nil, fmt.Errorf("%s: not a report: %w", path, err)
	}
	return e, nil
}

// epochsShown is how many of the last epochs are shown to people; --json has all.
const epochsShown = 10

func (v *runView) print(out io.Writer) error {
	w := newTable(out)
	w.row("run", "%s", v.Run)
	j, s := v.job, "none"
	if j.Test == "" {
		s = "what stands beside it, or a part of it"
	} else if j.Test != "none" {
		s = j.Test
	}
	w.row("data", "%s; test set: %s", j.Data, s)
	switch {
	case j.Strategy == job.Direct:
		w.row("model", "%s, in closed form", j.Model)
	case j.Solves():
		w.row("model", "%s, %s", j.Model, j.Strategy)
		w.row("steps", "%d at most, all samples each, in %s, seed %d", j.Epochs, count(j.Microshards, "microshard"), j.Seed)
	default:
		w.row("model", "%s, %s at rate %v, schedule %s", j.Model, j.Optimizer, j.LR, j.Schedule)
		length := count(j.Epochs, "epoch")
		if j.Steps > 0 {
			length = count(j.Steps, "step")
		}
		w.row("steps", "%s, batch %s in %s, seed %d", length, thousands(j.Batch), count(j.Microshards, "microshard"), j.Seed)
	}
	w.row("workers", "%s over %s", thousands(j.Workers), j.Transport)
	if err := w.flush(); err != nil {
		return err
	}
	if err := v.printCheckpoints(out); err != nil {
		return err
	}
	if err := v.printEpochs(out); err != nil {
		return err
	}
	return v.printReport(out)
}

func (v *runView) printCheckpoints(out io.Writer) error {
	if len(v.Checkpoints) == 0 {
		_, err := fmt.Fprintln(out, "\nno checkpoints")
		return err
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "checkpoint\tepoch\tsize\tstate\tSHA-256 of the weights\n")
	for _, c := range v.Checkpoints {
		if c.Error != "" {
			fmt.Fprintf(w, "step %s\t-\t-\tDAMAGED\t%s\n", thousands(c.Step), c.Error)
			continue
		}
		fmt.Fprintf(w, "step %s\t%d\t%s\twhole\t%s\n", thousands(c.Step), c.Epoch, bytes(c.Bytes), cmp.Or(c.Weights, "-"))
	}
	return w.Flush()
}

func (v *runView) printEpochs(out io.Writer) error {
	if s := v.LastStep; s != nil {
		fmt.Fprintf(out, "\nlast step: %s, of epoch %d, loss %.6g, rate %.4g, %s after the start\n", thousands(s.Step), s.Epoch, s.Loss, s.Rate, short(seconds(s.At)))
	}
	if len(v.Epochs) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "epoch\tafter step\tloss\ttest accuracy\ttest loss\tat\tsample ledger\n")
	shown := v.Epochs[max(0, len(v.Epochs)-epochsShown):]
	if n := len(v.Epochs) - len(shown); n > 0 {
		fmt.Fprintf(w, "... %s before\n", count(n, "epoch"))
	}
	for _, e := range shown {
		trained, acc, loss := fmt.Sprintf("%.5g", e.Loss), "-", "-"
		if e.Quiet {
			trained = "-"
		}
		// Regression has no accuracy, which the metrics write as 0.
		if e.Accuracy != nil && *e.Accuracy > 0 {
			acc = fmt.Sprintf("%.2f %%", 100**e.Accuracy)
		}
		if e.TestLoss != nil {
			loss = fmt.Sprintf("%.5g", *e.TestLoss)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Epoch, thousands(e.Step), trained, acc, loss, short(seconds(e.At)), e.Samples)
	}
	return w.Flush()
}

// printReport shows the ledgers of the report, and what it came to.
func (v *runView) printReport(out io.Writer) error {
	e := v.Report
	if e == nil {
		_, err := fmt.Fprintln(out, "\nno report: the run goes on, or did not get to its end")
		return err
	}
	fmt.Fprintln(out)
	t := newTable(out)
	how := "done"
	if e.Stopped {
		how = "stopped"
	}
	t.row(how, "%s, %s, %s samples in %s with %s", count(e.Steps, "step"), epochs(e.Epochs), thousands(e.Samples), short(seconds(e.Wall)), count(e.Workers, "worker"))
	if e.Accuracy != nil {
		t.row("accuracy", "%.2f %%", 100**e.Accuracy)
	}
	if e.AUC != nil {
		t.row("AUC", "%.6g, log-loss %.6g", *e.AUC, *e.TestLoss)
	}
	if e.RMSE != nil {
		t.row("error", "%.6g (root mean square)", *e.RMSE)
	}
	if e.Weights == "" {
		t.row("weights", "%s", noWeights)
	} else {
		t.row("weights", "SHA-256 %s", e.Weights)
	}
	t.row("same bits", "%s", e.Reproducible)
	if err := t.flush(); err != nil || len(e.Ops) == 0 {
		return err
	}
	fmt.Fprint(out, "\nbyte ledger, all workers\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "operation\tmessages\tpayload\theader\tcontrol\tby the formula\t\t\n")
	for _, o := range e.Ops {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", o.Op, big(o.Messages), big(o.Payload), big(o.Header), big(o.Control), big(o.Expected), fits(o.Payload+o.Header, o.Expected))
	}
	fmt.Fprintf(w, "all\t%s\t%s\t%s\t%s\t%s\t%s\t\n", big(e.Messages), big(e.Payload), big(e.Header), big(e.Control), big(e.BytesExpected), fits(e.BytesSent, e.BytesExpected))
	if err := w.Flush(); err != nil {
		return err
	}
	if e.Socket != nil {
		fmt.Fprintf(out, "counted at the sockets: %s bytes, %s\n", big(*e.Socket), fits(*e.Socket, e.BytesSent+e.Control))
	}
	return nil
}

func big(n int64) string { return thousands(int(n)) }

// fits says whether the books close.
func fits(sent, expected int64) string {
	if sent == expected {
		return "as sent"
	}
	return fmt.Sprintf("NOT the %s sent", big(sent))
}
