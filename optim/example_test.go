package optim_test

import (
	"fmt"

	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/spec"
)

// The loop that training runs: the schedule gives the rate, the rule makes the update.
func Example() {
	layout := model.Layout{}.Add("weight", 2, 1)
	rule, err := spec.Parse("momentum:0.5")
	if err != nil {
		panic(err)
	}
	opt, err := optim.New(rule, layout)
	if err != nil {
		panic(err)
	}
	shape, err := spec.Parse("linear:warmup=2")
	if err != nil {
		panic(err)
	}
	const updates = 6
	sched, err := optim.NewSchedule(shape, 0.25, updates, 32)
	if err != nil {
		panic(err)
	}

	x := []float32{4, -8} // minimise |x|^2/2, whose gradient is x
	g := make([]float32, 2)
	for t := 1; t <= updates; t++ {
		copy(g, x)
		rate := float32(sched.Rate(t))
		opt.Begin(t, rate)
		opt.Apply(x, g, 0, 1)
		fmt.Println(t, rate, x)
	}
	fmt.Println(opt.State()[0].Name, opt.State()[0].Shape)
	// Output:
	// 1 0.125 [3.5 -7]
	// 2 0.25 [2.125 -4.25]
	// 3 0.25 [0.90625 -1.8125]
	// 4 0.1875 [0.27929688 -0.55859375]
	// 5 0.125 [0.03540039 -0.07080078]
	// 6 0.0625 [-0.027786255 0.05557251]
	// sgd.momentum [2]
}

func ExampleNames() {
	for _, c := range optim.Names() {
		fmt.Println(c.Name)
	}
	// Output:
	// sgd
	// momentum
	// nesterov
	// adagrad
	// rmsprop
	// adam
	// adamw
	// ftrl
	// lars
	// lamb
}

func ExampleNew() {
	typo, err := spec.Parse("adm:beta1=0.8")
	if err != nil {
		panic(err)
	}
	_, err = optim.New(typo, nil)
	fmt.Println(err)
	// Output: unknown optimizer "adm": did you mean "adam"? (sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, ftrl, lars, lamb)
}
