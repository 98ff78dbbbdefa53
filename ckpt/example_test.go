package ckpt_test

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/covey-ml/covey/ckpt"
)

func ExampleSave() {
	run, err := os.MkdirTemp("", "run")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(run)

	weights := []float32{1, 2, 3, 4, 5, 6}
	c := ckpt.Checkpoint{
		Manifest: ckpt.Manifest{Step: 40, Epoch: 2, Seed: 7, World: 4, Microshards: 12},
		Model:    []ckpt.Tensor{ckpt.Float32s("fc.weight", []int{2, 3}, weights)},
		State:    []ckpt.Tensor{ckpt.Uint64s("sampler.position", nil, []uint64{1280})},
	}
	if err := c.Set("note", "before the rate was cut"); err != nil {
		panic(err)
	}
	if err := ckpt.Save(ckpt.StepDir(run, c.Step), c); err != nil {
		panic(err)
	}

	path, passed, err := ckpt.Latest(run)
	if err != nil {
		panic(err)
	}
	back, err := ckpt.Load(path)
	if err != nil {
		panic(err)
	}
	x := make([]float32, 6)
	if err := ckpt.Restore(back.Model, []ckpt.Tensor{ckpt.Float32s("fc.weight", []int{2, 3}, x)}); err != nil {
		panic(err)
	}
	fmt.Println("step", back.Step, "passed over", len(passed))
	fmt.Println(x)
	// A model of another shape does not take it.
	fmt.Println(ckpt.Restore(back.Model, []ckpt.Tensor{ckpt.Float32s("fc.weight", []int{1, 3}, x[:3])}))
	// Output:
	// step 40 passed over 0
	// [1 2 3 4 5 6]
	// tensor "fc.weight" is F32 [2 3] where F32 [1 3] is expected
}

func ExampleWrite() {
	var file bytes.Buffer
	t := ckpt.Float32s("bias", nil, []float32{0.5, -0.5})
	if err := ckpt.Write(&file, []ckpt.Tensor{t}, map[string]string{"made by": "hand"}); err != nil {
		panic(err)
	}
	tensors, meta, err := ckpt.Read(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		panic(err)
	}
	fmt.Println(tensors[0].Name, tensors[0].Type, tensors[0].Shape, meta)
	// Output:
	// bias F32 [2] map[made by:hand]
}

func ExampleWriter() {
	run, err := os.MkdirTemp("", "run")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(run)

	ctx := context.Background()
	w, err := ckpt.NewWriter(ckpt.WriterConfig{Run: run, Keep: 2, Go: func(f func()) { go f() }})
	if err != nil {
		panic(err)
	}
	weights := []float32{1, 2, 3}
	for step := 1; step <= 4; step++ {
		weights[0]++ // training, which goes on while the checkpoint before is written
		c := ckpt.Checkpoint{Manifest: ckpt.Manifest{Step: step}, Model: []ckpt.Tensor{ckpt.Float32s("w", nil, weights)}}
		if err := w.Save(ctx, c); err != nil {
			panic(err)
		}
	}
	if err := w.Close(ctx); err != nil {
		panic(err)
	}
	for _, s := range w.Done() {
		fmt.Println("step", s.Step, "error", s.Err, "made room:", len(s.Removed))
	}
	// Output:
	// step 1 error <nil> made room: 0
	// step 2 error <nil> made room: 0
	// step 3 error <nil> made room: 1
	// step 4 error <nil> made room: 1
}

func ExampleDraft() {
	run, err := os.MkdirTemp("", "run")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(run)

	model := []ckpt.Tensor{ckpt.Float32s("table", []int{3, 2}, []float32{1, 2, 3, 4, 5, 6}), ckpt.Float32s("bias", nil, []float32{7, 8})}
	draft, err := ckpt.Begin(ckpt.StepDir(run, 40)) // one worker, who tells the others
	if err != nil {
		panic(err)
	}
	var all []ckpt.Written
	for i := range 3 { // each worker its part
		written, err := draft.Write(ckpt.Part{Index: i, Of: 3, Model: ckpt.Cut(model, i, 3)})
		if err != nil {
			panic(err)
		}
		all = append(all, written)
	}
	if err := draft.Commit(ckpt.Manifest{Step: 40, World: 3}, all...); err != nil { // the first again
		panic(err)
	}

	back, err := ckpt.Load(draft.Dir)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(back.Files), "files;", back.Model[0].Name, back.Model[0].Shape, back.Model[1].Name, back.Model[1].Shape)
	// Output:
	// 6 files; table [3 2] bias [2]
}
