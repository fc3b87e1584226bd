def advise(history, diagnosis): return diagnosis
