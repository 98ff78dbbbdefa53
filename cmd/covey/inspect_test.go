package main

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/covey-ml/covey/ckpt"
)

func TestViewTensor(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	half16 := func(bits ...uint16) []byte {
		var b []byte
		for _, v := range bits {
			b = binary.LittleEndian.AppendUint16(b, v)
		}
		return b
	}
	for _, c := range []struct {
		tensor         ckpt.Tensor
		min, mean, max float64
		bad            int
	}{
		{ckpt.Float32s("a", []int{2, 2}, []float32{1, -2, 4, 5}), -2, 2, 5, 0},
		{ckpt.Float32s("a", nil, []float32{1, nan, inf, 3}), 1, 2, 3, 2},
		{ckpt.Float64s("a", nil, []float64{1e300, -1e300}), -1e300, 0, 1e300, 0},
		{ckpt.Int64s("a", nil, []int64{-5, 5}), -5, 0, 5, 0},
		{ckpt.Uint64s("a", nil, []uint64{1, 3}), 1, 2, 3, 0},
		{ckpt.Bytes("a", nil, []byte{0, 255}), 0, 127.5, 255, 0},
		{ckpt.Tensor{Name: "a", Type: "I8", Shape: []int{2}, Data: []byte{0xff, 1}}, -1, 0, 1, 0},
		// 1.5, the smallest number above 0, infinity, 65504 (IEEE 754-2008, table 3.5)
		{ckpt.Tensor{Name: "a", Type: "F16", Shape: []int{4}, Data: half16(0x3e00, 0x0001, 0x7c00, 0x7bff)}, math.Ldexp(1, -24), (1.5 + 65504 + math.Ldexp(1, -24)) / 3, 65504, 1},
		{ckpt.Tensor{Name: "a", Type: "F16", Shape: []int{2}, Data: half16(0xc000, 0x7e00)}, -2, -2, -2, 1},
		{ckpt.Tensor{Name: "a", Type: "BF16", Shape: []int{2}, Data: half16(0x3fc0, 0xbf80)}, -1, 0.25, 1.5, 0},
	} {
		v := viewTensor(c.tensor)
		if v.Min == nil || *v.Min != c.min || *v.Mean != c.mean || *v.Max != c.max || v.NotFinite != c.bad || v.Bytes != len(c.tensor.Data) {
			t.Errorf("%s %v: %+v, min %v", c.tensor.Type, c.tensor.Data, v, v.Min)
		}
	}
	for _, empty := range []ckpt.Tensor{ckpt.Float32s("a", nil, nil), ckpt.Float32s("a", nil, []float32{nan}), {Name: "a", Type: "F8_E4M3", Shape: []int{1}, Data: []byte{1}}} {
		if v := viewTensor(empty); v.Min != nil || v.Mean != nil || v.Max != nil {
			t.Errorf("%+v", v)
		}
	}
}

// A file that another program wrote: a manifest beside it, metadata and types that Covey does not compute with.
func TestInspectForeignFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	err = ckpt.Write(f, []ckpt.Tensor{{Name: "w", Type: "F8_E4M3", Shape: []int{2}, Data: []byte{1, 2}}, ckpt.Float32s("b", nil, []float32{float32(math.NaN())})}, map[string]string{"format": "pt"})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	out, stderr, code := command(t, nil, "inspect", path)
	for _, want := range []string{"metadata     format: pt", "w          F8_E4M3  [2]    2 bytes  -", "1 not finite"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if code != exitDone || stderr != "" {
		t.Error(code, stderr)
	}
	if out, stderr, code = command(t, nil, "inspect", path, "--json"); code != exitDone || !strings.Contains(out, `"min":null`) {
		t.Error(code, stderr, out)
	}
}

func TestMetricsLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metrics.jsonl")
	text := `{"step":1,"epoch":1,"loss":2,"lr":0.1,"at_s":1}
{"step":1,"epoch_end":1,"loss":2,"accuracy":0.5,"test_loss":1,"at_s":2,"sample_ledger":"epoch 1: each sample used exactly once"}
{"step":2,"epoch":2,"loss":1.5,"lr":0.1,"at_s":3}
`
	write := func(text string) (*runView, error) {
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		v := &runView{}
		return v, v.readMetrics(path)
	}
	v, err := write(text + `{"step":3,"epo`) // being written
	if err != nil || len(v.Epochs) != 1 || *v.Epochs[0].Accuracy != 0.5 || v.LastStep.Step != 2 || v.LastStep.Loss != 1.5 {
		t.Errorf("%+v %v", v, err)
	}
	if _, err = write("x\n" + text); err == nil || !strings.HasPrefix(err.Error(), path+", line 1: not a line of metrics") {
		t.Error(err)
	}
}

// State that is each worker's own says whose its rows are, and what a checkpoint leaves out is listed.
func TestInspectStateOfWorkers(t *testing.T) {
	c := ckpt.Checkpoint{
		Manifest: ckpt.Manifest{Step: 3, World: 3, Microshards: 4},
		Model:    []ckpt.Tensor{ckpt.Float32s("w", nil, []float32{1, 2})},
		State: []ckpt.Tensor{
			ckpt.Float32s("reducer/kept/w", []int{3, 2}, make([]float32, 6)).With(ckpt.Summed),
			ckpt.Float32s("strategy/variates", []int{4, 2}, make([]float32, 8)).With(ckpt.PerClient),
			ckpt.Float32s("optimizer/m", nil, []float32{1, 2}),
		},
	}
	if err := c.Manifest.Set("progress", map[string]any{"dropped": []string{"strategy/draft"}}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "step-3")
	if err := ckpt.Save(dir, c); err != nil {
		t.Fatal(err)
	}
	v, err := inspectCheckpoint(target{checkpoint: dir})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := v.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`not kept +strategy/draft\n`,
		`reducer/kept/w +F32 +\[3 2\] .* parts of a sum, of 3 workers\n`,
		`strategy/variates +F32 +\[4 2\] .* one for each of 4 microshards\n`,
		`optimizer/m +F32 +\[2\] .*1.5 +2 *\n`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("%s is not in\n%s", want, out.String())
		}
	}
}
