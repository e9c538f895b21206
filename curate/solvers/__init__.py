"""Ways of solving (C + λ I) u = v: `exact`, `cg`, `lissa`, each with the residual that it measured."""
