"""client (essay follows)"""
