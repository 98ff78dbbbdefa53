package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/train"
)

func inspectCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "inspect RUN|CHECKPOINT|FILE.safetensors",
		Short: "Show what a run folder, a checkpoint or a tensor file holds, and whether it is whole",
		Long: `Show a run folder (its job, checkpoints, last metrics, sample ledger and byte ledger), a checkpoint folder
(its manifest and tensors) or a safetensors file (its tensors). All that has a SHA-256 is read and held to it.` + "\n" + exitHelp,
		Example: `  covey inspect runs/mnist-mlp-1
  covey inspect runs/mnist-mlp-1/checkpoints/step-1175 --json
  covey inspect model.safetensors`,
		Args: exactly("a run folder, a checkpoint folder or a .safetensors file", 1),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := findTarget(args[0])
			if err != nil {
				return err
			}
			var v view
			switch {
			case p.checkpoint != "":
				v, err = inspectCheckpoint(p)
			case p.run != "":
				v, err = inspectRun(p.run)
			default:
				v, err = inspectFile(p.file)
			}
			if v == nil {
				return err
			}
			// What is whole is shown even when something else is not.
			if asJSON {
				return cmp.Or(printJSON(c.OutOrStdout(), v), err)
			}
			return cmp.Or(v.print(c.OutOrStdout()), err)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// view is what inspect shows; its exported fields are the JSON.
type view interface{ print(w io.Writer) error }

func printJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}

// checkpointView is a checkpoint folder.
type checkpointView struct {
	Path     string        `json:"path"`
	Step     int           `json:"step"`
	Epoch    int           `json:"epoch"`
	Manifest ckpt.Manifest `json:"manifest"`
	Weights  string        `json:"weights_sha256"` // computed from the tensors, equal to the manifest's
	Count    int           `json:"parameters"`
	Model    []tensorView  `json:"model"`
	State    []tensorView  `json:"state"`
	Report   string        `json:"report_weights_sha256,omitempty"` // of the run that ended at this step
}

func inspectCheckpoint(p target) (view, error) {
	c, err := ckpt.Load(p.checkpoint)
	if err != nil {
		return nil, corrupt(err)
	}
	v := &checkpointView{Path: p.checkpoint, Step: c.Step, Epoch: c.Epoch, Manifest: c.Manifest, Weights: ckpt.WeightsHash(c.Model),
		Model: viewTensors(c.Model), State: viewTensors(c.State)}
	for _, t := range c.Model {
		v.Count += t.Len()
	}
	if v.Weights != c.WeightsSHA256 {
		return v, corruptf("checkpoint %s: the parameters' SHA-256 is %s, the manifest says %s", p.checkpoint, v.Weights, c.WeightsSHA256)
	}
	if p.run == "" {
		return v, nil
	}
	if r, err := readReport(p.run); err == nil && r != nil && r.Steps == c.Step {
		v.Report = r.Weights
		if r.Weights != v.Weights {
			return v, corruptf("checkpoint %s: the parameters' SHA-256 is %s, the run's report says %s", p.checkpoint, v.Weights, r.Weights)
		}
	}
	return v, nil
}

func (v *checkpointView) print(out io.Writer) error {
	w := newTable(out)
	w.row("checkpoint", "%s", v.Path)
	w.row("after", "%s, %s", count(v.Step, "step"), count(v.Epoch, "whole epoch"))
	w.row("saved by", "%s, %s, seed %d", count(v.Manifest.World, "worker"), count(v.Manifest.Microshards, "microshard"), v.Manifest.Seed)
	var choice string
	if v.Manifest.Get("model", &choice) == nil {
		w.row("model", "%s, %s", choice, count(v.Count, "parameter"))
	} else {
		w.row("model", "%s", count(v.Count, "parameter"))
	}
	if schema, text := schemaText(v.Manifest); schema {
		w.row("learned from", "%s", text)
	}
	if dropped := train.Dropped(v.Manifest); len(dropped) > 0 {
		w.row("not kept", "%s", strings.Join(dropped, ", "))
	}
	for i, name := range slices.Sorted(maps.Keys(v.Manifest.Files)) {
		what := ""
		if i == 0 {
			what = "files"
		}
		f := v.Manifest.Files[name]
		w.row(what, "%s, %s, SHA-256 %s as the manifest says", name, bytes(f.Size), f.SHA256)
	}
	same := "as the manifest says"
	if v.Report != "" {
		same = "as the manifest and the run's report say"
	}
	w.row("weights", "SHA-256 %s, %s", v.Weights, same)
	if err := w.flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s\n", ckpt.ModelFile)
	if err := printTensors(out, v.Model); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s\n", ckpt.StateFile)
	return printTensors(out, v.State)
}

// fileView is a safetensors file.
type fileView struct {
	Path    string            `json:"path"`
	Bytes   int64             `json:"bytes"`
	SHA256  string            `json:"sha256"`
	Weights string            `json:"weights_sha256"` // of the tensors' data alone, in the order of the file
	Meta    map[string]string `json:"metadata,omitempty"`
	Tensors []tensorView      `json:"tensors"`
	said    string            // by the manifest beside the file
}

// inspectFile shows a tensor file. When it stands in a checkpoint folder, all of that must be whole.
func inspectFile(path string) (view, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &usageError{err}
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	sum, err := hashOf(f)
	if err != nil {
		return nil, corruptf("%s: %w", path, err)
	}
	// A manifest beside the file says what it must be.
	v := &fileView{Path: path, Bytes: st.Size(), SHA256: sum}
	var damage error
	if dir := filepath.Dir(path); holds(dir, ckpt.ManifestFile) {
		m, err := ckpt.Verify(dir)
		if err != nil {
			damage = corrupt(err)
		}
		v.said = m.Files[filepath.Base(path)].SHA256
	}
	ts, meta, err := ckpt.Read(f, st.Size())
	if err != nil {
		return nil, cmp.Or(damage, corruptf("%s: %w", path, err))
	}
	v.Meta, v.Tensors, v.Weights = meta, viewTensors(ts), ckpt.WeightsHash(ts)
	return v, damage
}

func (v *fileView) print(out io.Writer) error {
	w := newTable(out)
	w.row("file", "%s, %s", v.Path, bytes(v.Bytes))
	said := ""
	if v.said == v.SHA256 {
		said = ", as the manifest beside it says"
	}
	w.row("SHA-256", "%s%s", v.SHA256, said)
	w.row("of its data", "%s", v.Weights)
	for i, k := range slices.Sorted(maps.Keys(v.Meta)) {
		what := ""
		if i == 0 {
			what = "metadata"
		}
		w.row(what, "%s: %s", k, v.Meta[k])
	}
	if err := w.flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	return printTensors(out, v.Tensors)
}
