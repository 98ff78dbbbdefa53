package inproc

import "github.com/covey-ml/covey/comm"

// Costs implements comm.Costed.
func (g *group) Costs() comm.Costs { return comm.InprocCosts }

var _ comm.Costed = (*group)(nil)
