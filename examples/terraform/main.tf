# Two EKS clusters, one mesh. The clusters themselves come from wherever they come from; with the EKS module:
#
#   clusters   = [module.eks_1.cluster_arn, module.eks_2.cluster_arn]
#   depends_on = [module.eks_1, module.eks_2]
#
# One apply does it all: no -target, no sleep, no second run. `terraform destroy` takes the mesh apart first.

variable "clusters" {
  type    = list(string)
  default = ["eks-1", "eks-2"]
}

variable "options" {
  type    = list(string)
  default = []
}

variable "meshlink" {
  type    = string
  default = "meshlink"
}

module "mesh" {
  source   = "./mesh"
  clusters = var.clusters
  options  = var.options
  meshlink = var.meshlink
}

output "gateways" {
  value = module.mesh.gateways
}

output "ready" {
  value = module.mesh.ready
}
