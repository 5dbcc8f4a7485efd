"""What ``aigeco doctor`` looks at: one module an area, each with a look at the machine and a judgement that is pure."""
