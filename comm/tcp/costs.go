package tcp

import "github.com/covey-ml/covey/comm"

// Costs implements comm.Costed.
func (g *group) Costs() comm.Costs { return comm.TCPCosts }

var _ comm.Costed = (*group)(nil)
