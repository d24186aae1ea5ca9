# Two EKS clusters, one mesh. The clusters themselves come from wherever they come from; with the EKS module:
#
#   clusters   = { eks-1 = module.eks_1.cluster_arn, eks-2 = module.eks_2.cluster_arn }
#   depends_on = [module.eks_1, module.eks_2]
#
# One apply does it all: no -target, no sleep, no second run. A third entry joins; an entry that is taken out leaves, and nobody
# else does. `terraform destroy` takes the mesh apart first.

variable "clusters" {
  type    = map(string)
  default = { eks-1 = "eks-1", eks-2 = "eks-2" }
}

variable "options" {
  type    = list(string)
  default = []
}

module "mesh" {
  source   = "./mesh"
  clusters = var.clusters
  options  = var.options
}

output "gateways" {
  value = module.mesh.gateways
}

output "ready" {
  value = module.mesh.ready
}
